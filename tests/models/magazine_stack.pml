/* The stack of magazines of a SlabAllocator's depot (cpp/src/mem/alloc/magazines.cpp): threads take magazines and put
 * them back. Every access to a shared word is a step of its own, in the order in which the source makes them, and steps
 * of different threads mix in every possible way. Memory is sequentially consistent here: that the orders written in
 * the source give as much is what ThreadSanitizer and the comments there are for. The tag, which wraps after 2^28
 * operations there, has room for all that happen here.
 *
 * Proved: a magazine has one holder at a time, none is lost, and the depth in the head is right when all is quiet.
 *   NO_TAG   an exchange looks only at the index: must be found out
 */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define MAGAZINES 3
#ifndef NO_TAG
#define NO_TAG false
#endif

byte index = 0;  /* the head: one word, so the three change in one step */
byte depth = 0;
byte tag = 0;
byte next[4];    /* by index; 0 is none */
bool held[4];
byte finished = 0;

inline push(i) {
  atomic { head_index = index; head_depth = depth; head_tag = tag }
  do
  :: next[i] = head_index;
     atomic {
       if
       :: index == head_index && (NO_TAG || (depth == head_depth && tag == head_tag)) ->
          index = i; depth = head_depth + 1; tag = head_tag + 1; held[i] = false; break
       :: else -> head_index = index; head_depth = depth; head_tag = tag
       fi
     }
  od
}

inline pop(i) {
  atomic { head_index = index; head_depth = depth; head_tag = tag }
  do
  :: head_index == 0 -> i = 0; break
  :: else ->
     successor = next[head_index];
     atomic {
       if
       :: index == head_index && (NO_TAG || (depth == head_depth && tag == head_tag)) ->
          i = head_index;
          index = successor; depth = head_depth - 1; tag = head_tag + 1;
          assert(!held[i]);
          held[i] = true;
          break
       :: else -> head_index = index; head_depth = depth; head_tag = tag
       fi
     }
  od
}

proctype Thread() {
  byte head_index, head_depth, head_tag, successor, one, two, round;
  do
  :: round < ROUNDS ->
     round++;
     pop(one);
     pop(two);
     if  /* back in either order */
     :: one != 0 -> push(one); one = 0
     :: true
     fi;
     if
     :: two != 0 -> push(two)
     :: else
     fi;
     if
     :: one != 0 -> push(one)
     :: else
     fi;
     one = 0; two = 0
  :: else -> break
  od;
  finished++
}

init {
  byte i;
  atomic {
    next[1] = 2; next[2] = 3; next[3] = 0;
    index = 1; depth = MAGAZINES;
    i = 0;
    do
    :: i < THREADS -> run Thread(); i++
    :: else -> break
    od
  }
  finished == THREADS;
  atomic {  /* all magazines are there, each once */
    i = 0;
    do
    :: index != 0 -> assert(!held[index]); held[index] = true; index = next[index]; i++
    :: else -> break
    od;
    assert(i == MAGAZINES && depth == MAGAZINES)
  }
}
