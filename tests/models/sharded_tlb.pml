/* The protocol of ShardedTlb, its FlushLog and the private levels of HybridTlb, for one page in a set of one way.
 *
 * Changers change the page table and flush; fillers walk and insert; readers look up in the shared set, private
 * readers through a level of their own. Every access to a shared word is a step of its own, in the order in which the
 * sources make them, and steps of different processes mix in every possible way. Memory is sequentially consistent
 * here: that the orders written in the sources give as much is what ThreadSanitizer and the comments there are for.
 *
 * Proved: an answer is whole, and is not older than the last flush that returned before the look-up began.
 * Each mutation takes one thing away and must be found out:
 *   NO_TICKET        a fill does not look at the log under the lock
 *   LOG_LATE         a flush enters the log after it has visited the set
 *   NO_RECHECK       a reader does not look at the sequence again
 *   FILL_UNSETTLED   a private level keeps answers while a flush that it knows of is still under way
 *
 * PRIVATE makes the reader one with a private level; CHANGERS and FILLERS are how many there are.
 */
#ifndef CHANGERS
#define CHANGERS 2
#endif
#ifndef FILLERS
#define FILLERS 2
#endif
#define ATTEMPTS 2

byte table = 0;      /* the version that a walk finds */
byte returned = 0;   /* the version that every look-up from now on has to have */
byte begun = 0;      /* FlushLog */
byte completed = 0;

byte sequence = 0;   /* the set */
bool tag = false;
byte frame = 0;
byte meta = 0;

inline lock(s) { atomic { sequence % 2 == 0 -> s = sequence; sequence = s + 1 } }
inline unlock(s) { sequence = s + 2 }

active [CHANGERS] proctype Changer() {
  byte version, s;
  atomic { table++; version = table }
#ifndef LOG_LATE
  begun++;
#endif
  do /* ShardedTlb::clean */
  :: atomic { sequence % 2 == 0 -> s = sequence }
     if
     :: tag -> break
     :: else ->
        if
        :: sequence == s -> goto clean
        :: else
        fi
     fi
  od;
  lock(s);
  tag = false; frame = 0; meta = 0;
  unlock(s);
clean:
#ifdef LOG_LATE
  begun++;
#endif
  completed++;
  atomic {
    if
    :: returned < version -> returned = version
    :: else
    fi
  }
}

active [FILLERS] proctype Filler() {
  byte ticket, version, s;
  ticket = begun;
  version = table;
  lock(s);
#ifndef NO_TICKET
  if
  :: begun != ticket -> goto rejected
  :: else
  fi;
#endif
  tag = true; frame = version; meta = version;
rejected:
  unlock(s)
}

/* ShardedTlb::find. `hit` is false also when a writer was in the way too often. */
inline find(hit, version, before, other, attempt) {
  hit = false;
  attempt = 0;
  do
  :: attempt == ATTEMPTS -> break
  :: else ->
     attempt++;
     before = sequence;
     if
     :: !tag -> break
     :: else
     fi;
     other = meta;
     version = frame;
#ifdef NO_RECHECK
     hit = true; break
#else
     if
     :: before % 2 == 0 && sequence == before -> hit = true; break
     :: else
     fi
#endif
  od;
  if
  :: hit -> assert(version == other)
  :: else
  fi
}

#ifndef PRIVATE
active [1] proctype Reader() {
  byte least, version, before, other, attempt;
  bool hit;
  least = returned;
  find(hit, version, before, other, attempt);
  assert(!hit || version >= least)
}

#else
active [1] proctype PrivateReader() {
  byte least, version, before, other, attempt, round;
  bool hit;
  byte seen = 0, kept = 0;
  bool have = false, settled = false;
  for (round : 1 .. 2) {
    least = returned;
    if
    :: begun != seen -> seen = begun; have = false; settled = false
    :: else
    fi;
    if
    :: have -> assert(kept >= least)
    :: else ->
#ifdef FILL_UNSETTLED
       settled = true;
#else
       if
       :: !settled ->
          before = completed;
          settled = (before == seen && begun == seen)
       :: else
       fi;
#endif
       find(hit, version, before, other, attempt);
       assert(!hit || version >= least);
       if
       :: hit && settled -> have = true; kept = version
       :: else
       fi
    fi
  }
}
#endif
