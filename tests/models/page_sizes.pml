/* The two words that say which page sizes a ShardedTlb has: `sizes`, where look-ups look, which a flush of everything
 * empties, and `ever`, where flushes of pages look, which only grows. One page of the only size, in one set.
 *
 * A set's words change in one step here (sharded_tlb.pml has the steps). Another page, in another set, does nothing but
 * make the size come back.
 *
 * Proved: no answer is older than the last flush that returned before the look-up began.
 * Mutations that must be found out:
 *   ONE_WORD       flushes of pages look where look-ups do
 *   ANNOUNCE_LATE  a fill announces its size after it has written the entry
 */
byte table = 0;
byte returned = 0;
byte begun = 0;
bool sizes = false;
bool ever = false;
bool locked = false; /* the set's lock */
bool present = false;
byte kept = 0;

inline lock() { atomic { !locked -> locked = true } }
inline unlock() { locked = false }
inline announce() {
  if
  :: !ever -> ever = true
  :: else
  fi;
  if
  :: !sizes -> sizes = true
  :: else
  fi
}
inline clean() { lock(); present = false; unlock() }
inline finish(version) {
  atomic {
    if
    :: returned < version -> returned = version
    :: else
    fi
  }
}

active [1] proctype FlushOfEverything() {
  byte version;
  atomic { table++; version = table }
  begun++;
  sizes = false;
  clean();
  finish(version)
}

active [1] proctype FlushOfPage() {
  byte version;
  atomic { table++; version = table }
  begun++;
  if
#ifdef ONE_WORD
  :: sizes -> clean()
#else
  :: ever -> clean()
#endif
  :: else
  fi;
  finish(version)
}

active [1] proctype Filler() {
  byte ticket, version;
  ticket = begun;
  version = table;
#ifndef ANNOUNCE_LATE
  announce();
#endif
  lock();
  if
  :: begun != ticket -> goto done
  :: else
  fi;
  atomic { present = true; kept = version }
done:
  unlock();
#ifdef ANNOUNCE_LATE
  announce()
#endif
}

active [1] proctype OtherPage() { announce() }

active [1] proctype Reader() {
  byte least;
  least = returned;
  if
  :: sizes -> atomic {
       if
       :: present && !locked -> assert(kept >= least)
       :: else
       fi
     }
  :: else
  fi
}
