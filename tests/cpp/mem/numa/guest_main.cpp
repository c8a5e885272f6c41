// Runs the tests. As the first process of a guest it mounts what they read, runs them in a child, so that a crash is an
// exit status, says how they ended, and switches off.

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace {

int in_guest(const char* program) {
  for (const char* folder : {"/proc", "/sys", "/tmp"}) ::mkdir(folder, 0755);
  if (::mount("proc", "/proc", "proc", 0, nullptr) != 0 || ::mount("sys", "/sys", "sysfs", 0, nullptr) != 0) {
    std::perror("mount");
  }
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("VM_NUMA_GUEST", "1", 1);
    ::execl(program, program, "--gtest_color=no", nullptr);
    std::perror(program);
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  std::printf("guest tests ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  std::fflush(stdout);
  ::sync();
  return ::reboot(RB_POWER_OFF);
}

}  // namespace

int main(int count, char** arguments) {
  if (::getpid() == 1) return in_guest("/init");
  testing::InitGoogleTest(&count, arguments);
  return RUN_ALL_TESTS();
}
