/* The first and only process of the guest that make_linux_guest.py boots: loads the modules it finds, makes memory of
 * every kind, says "guest ready" on the console and then stays in user mode, so that CR3 is its own.
 *
 *     cc -static -nostdlib -nostartfiles -ffreestanding -fno-stack-protector -O1 -o init linux_guest_init.c
 */

typedef unsigned long word;

enum { SYS_write = 1, SYS_open = 2, SYS_mmap = 9, SYS_mprotect = 10, SYS_madvise = 28, SYS_finit_module = 313 };
enum { PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };
enum { MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20, MAP_HUGETLB = 0x40000, HUGE_1GB = 30 << 26 };
enum { MADV_HUGEPAGE = 14 };
enum { PAGE = 4096, HUGE = 2 << 20 };

static long call(long number, word a, word b, word c, word d, word e, word f) {
  long result;
  register word r10 __asm__("r10") = d;
  register word r8 __asm__("r8") = e;
  register word r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static void say(const char *text) {
  word length = 0;
  while (text[length] != 0) ++length;
  call(SYS_write, 1, (word)text, length, 0, 0, 0);
}

static volatile char *map(word size, word protection, word flags, long file) {
  const long address = call(SYS_mmap, 0, size, protection, flags, (word)file, 0);
  return address < 0 && address > -PAGE ? 0 : (volatile char *)address;
}

/* Some pages present, some not, in no regular pattern. */
static void touch(volatile char *at, word size, word stride, int write) {
  word state = 12345;
  if (at == 0) return;
  for (word offset = 0; offset < size; offset += stride) {
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    if ((state >> 60) < 6) continue;
    if (write) {
      at[offset] = 1;
    } else {
      (void)at[offset];
    }
  }
}

static char initialized[64 * PAGE] = {1};
static char uninitialized[64 * PAGE];

static void load_modules(void) {
  static const char *const names[] = {"/m0.ko", "/m1.ko", "/m2.ko", "/m3.ko"};
  for (word i = 0; i < sizeof names / sizeof names[0]; ++i) {
    const long file = call(SYS_open, (word)names[i], 0, 0, 0, 0, 0);
    if (file >= 0 && call(SYS_finit_module, (word)file, (word) "", 0, 0, 0, 0) < 0) say("module refused\n");
  }
}

static void make_memory(void) {
  volatile char *plain = map(16 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  touch(plain, 3 * HUGE / 2, PAGE, 1);
  volatile char *huge = map(16 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  call(SYS_madvise, (word)huge, 16 * HUGE, MADV_HUGEPAGE, 0, 0, 0);
  touch(huge, 16 * HUGE, HUGE, 1);
  volatile char *zero = map(HUGE / 2, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  touch(zero, HUGE / 2, PAGE, 0);
  volatile char *shared = map(HUGE / 2, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
  touch(shared, HUGE / 2, PAGE, 1);
  volatile char *frozen = map(HUGE / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  touch(frozen, HUGE / 2, PAGE, 1);
  call(SYS_mprotect, (word)frozen, HUGE / 4, PROT_READ, 0, 0, 0);
  call(SYS_mprotect, (word)frozen + HUGE / 4, HUGE / 8, PROT_NONE, 0, 0, 0);
  call(SYS_mprotect, (word)frozen + 3 * HUGE / 8, HUGE / 8, PROT_READ | PROT_EXEC, 0, 0, 0);
  touch(initialized, sizeof initialized, PAGE, 1);
  touch(uninitialized, sizeof uninitialized, PAGE, 1);
  const long self = call(SYS_open, (word) "/init", 0, 0, 0, 0, 0);
  touch(map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, self), PAGE, PAGE, 0);
  volatile char *giant =
      map(1UL << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | HUGE_1GB, -1);
  if (giant == 0) {
    say("no 1 GiB page\n");
  } else {
    giant[0] = 1;
  }
}

void _start(void) {
  load_modules();
  make_memory();
  say("guest ready\n");
  for (;;) __asm__ volatile("pause");
}
