#include "vm/mem/numa/binding.hpp"

#include <cerrno>
#include <system_error>

#include "mem/numa/binder.hpp"
#include "mem/numa/calls.hpp"
#include "vm/core/cache.hpp"

namespace vm::mem::numa {

namespace {

enum class Held : std::uint8_t { yes, no, unknown };

/// Whether the kernel holds `decision` for the page at `start`.
Held held(const void* start, const Decision& decision) noexcept {
  int mode = 0;
  NodeMask nodes;
  if (get_policy(start, mode, nodes) != 0) return Held::unknown;
  return kernel_mode_is(mode, decision.mode) && nodes == NodeMask(decision.nodes) ? Held::yes : Held::no;
}

std::string why(const Decision& decision, int code) {
  const std::string asked = "the kernel does not " + decision.text() + ": ";
  if (code == EPERM) {
    return asked + "this process may not call mbind; containers need CAP_SYS_NICE, or a seccomp profile that allows it";
  }
  if (code == ENOSYS) return asked + "it is built without NUMA";
  if (code == EINVAL && decision.mode == Mode::preferred_many) {
    return asked + "it has no such nodes, or it is older than Linux 5.15";
  }
  if (code == EINVAL) return asked + "it has no such nodes, or lets this process use none of them";
  return asked + std::system_category().message(code);
}

std::string why_no_home(int node, int code) {
  return "the nodes near node " + std::to_string(node) + " do not come first: " +
         (code == ENOSYS ? std::string("this kernel is older than Linux 5.17") : std::system_category().message(code));
}

}  // namespace

int bind_range(void* start, std::uint64_t size, const Decision& decision) noexcept {
  const int code = set_policy(start, size, decision);
  if (code != 0 || !decision.home_node) return code;
  return set_home_node(start, size, *decision.home_node);
}

Binding bind(Binder* first, void* start, std::uint64_t size, const Decision& decision, int& code) {
  Binding result;
  code = 0;
  // A policy that nobody can read back counts as set only when the kernel itself said so.
  if (first != nullptr && first->bind(start, size, decision) == 0 && held(start, decision) == Held::yes) {
    result.through = first->name();
  } else {
    code = set_policy(start, size, decision);
    if (code == 0 && held(start, decision) == Held::no) {
      code = EPERM;
      result.refusal = "mbind reports success, but the kernel holds another policy than " + decision.text() +
                       "; something between this process and the kernel answers in its place";
      return result;
    }
    if (code != 0) {
      result.refusal = why(decision, code);
      return result;
    }
    result.through = "mbind";
  }
  if (decision.home_node) {
    const int refused = set_home_node(start, size, *decision.home_node);
    if (refused != 0) result.refusal = why_no_home(*decision.home_node, refused);
  }
  return result;
}

}  // namespace vm::mem::numa
