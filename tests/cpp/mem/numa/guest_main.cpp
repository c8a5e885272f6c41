// Runs the tests; as the first process of a guest also mounts what they read, says how they ended, and switches off.

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

int main(int count, char** arguments) {
  const bool first = ::getpid() == 1;
  if (first) {
    ::mkdir("/proc", 0755);
    ::mkdir("/sys", 0755);
    ::mkdir("/tmp", 0755);
    if (::mount("proc", "/proc", "proc", 0, nullptr) != 0 || ::mount("sys", "/sys", "sysfs", 0, nullptr) != 0) {
      std::perror("mount");
    }
    testing::GTEST_FLAG(color) = "no";
  }
  testing::InitGoogleTest(&count, arguments);
  const int result = RUN_ALL_TESTS();
  if (first) {
    std::printf("guest tests ended with %d\n", result);
    std::fflush(stdout);
    ::sync();
    ::reboot(RB_POWER_OFF);
  }
  return result;
}
