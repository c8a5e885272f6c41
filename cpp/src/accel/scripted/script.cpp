#include "vm/accel/scripted/script.hpp"

#include <algorithm>
#include <string>

#include "vm/core/error.hpp"

namespace vm::accel::scripted {
namespace {

bool is_port_size(unsigned size) { return size == 1 || size == 2 || size == 4; }

/// What is wrong with it; empty: nothing.
std::string fault_of(const Play& play) {
  if (const auto* out = std::get_if<IoOut>(&play.exit)) {
    if (!is_port_size(out->size)) return "a port has items of 1, 2 or 4 bytes, not " + std::to_string(out->size);
    if (out->count == 0 || play.data.size() != std::size_t{out->size} * out->count)
      return std::to_string(out->count) + " items of " + std::to_string(out->size) + " bytes were promised and " +
             std::to_string(play.data.size()) + " bytes given";
  } else if (const auto* in = std::get_if<IoIn>(&play.exit)) {
    if (!is_port_size(in->size)) return "a port has items of 1, 2 or 4 bytes, not " + std::to_string(in->size);
    if (in->count == 0) return "no item is asked for";
  } else if (const auto* read = std::get_if<MmioRead>(&play.exit)) {
    if (read->size == 0 || read->size > 8) return "an access has 1 to 8 bytes, not " + std::to_string(read->size);
  } else if (const auto* write = std::get_if<MmioWrite>(&play.exit)) {
    if (write->size == 0 || write->size > 8) return "an access has 1 to 8 bytes, not " + std::to_string(write->size);
  }
  return {};
}

std::string fault_of(const Step& step) {
  if (const auto* play = std::get_if<Play>(&step)) {
    const std::string fault = fault_of(*play);
    return fault.empty() ? fault : std::string(exit_name(play->exit)) + ": " + fault;
  }
  if (const auto* what = std::get_if<Do>(&step)) return what->action ? "" : "Do: there is nothing to do";
  if (const auto* fail = std::get_if<Fail>(&step)) return fail->code != 0 ? "" : "Fail: 0 is no error";
  return {};
}

}  // namespace

void check(const Script& script) {
  for (std::size_t i = 0; i < script.steps.size(); ++i) {
    const std::string fault = fault_of(script.steps[i]);
    if (!fault.empty()) throw InvalidConfig("step " + std::to_string(i) + " of the script, " + fault);
  }
  if (!script.repeat_from) return;
  const auto count = script.steps.size();
  const auto from = static_cast<std::ptrdiff_t>(std::min(*script.repeat_from, count));
  const bool comes_back = std::any_of(script.steps.begin() + from, script.steps.end(),
                                      [](const Step& step) { return !std::holds_alternative<Do>(step); });
  if (!comes_back) {
    throw InvalidConfig("the script repeats from step " + std::to_string(*script.repeat_from) + " of " +
                        std::to_string(count) + ", and no step from there on lets a run come back");
  }
}

}  // namespace vm::accel::scripted
