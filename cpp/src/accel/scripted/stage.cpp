#include "stage.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "vm/core/error.hpp"

namespace vm::accel::scripted {
namespace {

constexpr std::array<const char*, 12> names = {"create_vm",   "create_vcpu", "add_slot",  "remove_slot",
                                               "change_slot", "run",         "reply",     "refuse",
                                               "complete",    "set_regs",    "set_sregs", "set_state"};

}  // namespace

const char* call_name(CallKind kind) noexcept { return names[static_cast<std::size_t>(kind)]; }

CallKind parse_call(const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<CallKind>(found - names.begin());
  std::string all;
  for (const char* one : names) all += std::string(all.empty() ? "" : ", ") + one;
  throw InvalidConfig("no call is named \"" + name + "\"; there are " + all);
}

void throw_failure(const char* what, int code) {
  const std::string message = std::string(what) + ": " + std::strerror(code) + " (as the script says)";
  switch (code) {
    case ENOMEM:
    case EMFILE:
    case ENFILE: throw ResourceExhausted(message);
    case ENOTTY:
    case EOPNOTSUPP: throw NotSupported(message);
    default: throw PlatformError(message, code);
  }
}

Stage::Stage(Plan plan) : plan_(std::move(plan)), watching_(plan_.record) {
  for (const auto& [vcpu, script] : plan_.scripts) check(script);
}

int Stage::due(CallKind kind) {
  const std::lock_guard<std::mutex> lock(mutex_);
  int code = 0;
  for (Failure& failure : failures_) {
    if (failure.kind == kind && --failure.left == 0) code = failure.code;
  }
  failures_.erase(std::remove_if(failures_.begin(), failures_.end(), [](const Failure& f) { return f.left == 0; }),
                  failures_.end());
  if (failures_.empty()) watching_.store(plan_.record, std::memory_order_relaxed);
  return code;
}

void Stage::fail_if_due(Call call) {
  const int code = due(call.kind);
  if (code == 0) return;
  const CallKind kind = call.kind;
  call.error = code;
  record(std::move(call));
  throw_failure(call_name(kind), code);
}

void Stage::record(Call call) {
  if (!plan_.record) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  calls_.push_back(std::move(call));
}

void Stage::take(Call call) {
  if (!watching()) return;
  fail_if_due(call);
  record(std::move(call));
}

std::vector<Call> Stage::calls() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return calls_;
}

void Stage::forget_calls() {
  const std::lock_guard<std::mutex> lock(mutex_);
  calls_.clear();
}

void Stage::fail(CallKind kind, int code, std::uint64_t nth) {
  if (code == 0 || nth == 0) throw InvalidConfig("a failure needs an errno and a call, both counted from 1; got 0");
  const std::lock_guard<std::mutex> lock(mutex_);
  failures_.push_back({kind, code, nth});
  watching_.store(true, std::memory_order_relaxed);
}

std::shared_ptr<NudgeCount> Stage::nudges(unsigned vm, unsigned vcpu) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<NudgeCount>& count = nudges_[{vm, vcpu}];
  if (!count) count = std::make_shared<NudgeCount>(0);
  return count;
}

}  // namespace vm::accel::scripted
