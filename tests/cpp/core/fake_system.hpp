#pragma once
/// A directory that looks like the root of a Linux machine, laid out file by file and removed at the end.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

namespace vm::test {

class FakeSystem {
 public:
  FakeSystem() {
    std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    std::replace(name.begin(), name.end(), '/', '-');  // of a test with a parameter
    root_ = std::filesystem::path(testing::TempDir()) / ("vm_" + std::to_string(getpid()) + "_" + name);
    std::filesystem::create_directories(root_);
  }
  FakeSystem(const FakeSystem&) = delete;
  FakeSystem& operator=(const FakeSystem&) = delete;
  ~FakeSystem() { std::filesystem::remove_all(root_); }

  std::string root() const { return root_.string(); }

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << '\n';
  }
  void cpu(int cpu, const std::string& file, const std::string& text) const {
    write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/" + file, text);
  }
  void node(int node, const std::string& file, const std::string& text) const {
    write("sys/devices/system/node/node" + std::to_string(node) + "/" + file, text);
  }

 private:
  std::filesystem::path root_;
};

}  // namespace vm::test
