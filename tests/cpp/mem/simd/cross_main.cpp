// The checks of every kernel that runs here, as a program without a test framework: for processors that only an
// emulator has. Prints a line for each instruction set; the exit status says whether all were right. `cross_main SEED`.

#include <cstdio>
#include <cstdlib>

#include "checks.hpp"

int main(int count, char** arguments) {
  using namespace vm::mem::simd;
  Random random(count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 1);
  const vm::CpuFeatures features = vm::CpuFeatures::detect();
  std::printf("vectors of SVE: %u bytes\n", static_cast<unsigned>(features.sve_vector_bytes.value_or(0)));
  std::printf("chosen: %s\n", std::string(name(CopyPlan::for_machine(features).instruction_set)).c_str());
  int failed = 0;
  for (std::size_t i = 0; i < instruction_set_count; ++i) {
    const auto set = static_cast<InstructionSet>(i);
    const std::string reason = why_not(set, features);
    std::string verdict = reason.empty() ? "right" : "not here: " + reason;
    if (reason.empty()) {
      for (const CopyPlan& plan : plans_of(set)) {
        const std::string wrong = check_everything(MemcpyStrategy(plan), random);
        if (wrong.empty()) continue;
        verdict = "WRONG: " + wrong;
        failed = 1;
      }
    }
    std::printf("%s: %s\n", std::string(name(set)).c_str(), verdict.c_str());
  }
  return failed;
}
