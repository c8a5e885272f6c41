#pragma once
/// \file
/// What is wanted of the nodes of memory, and what the kernel shall therefore be asked. The decision is a function of
/// its arguments alone: a description of a machine is decided for like the machine itself.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vm/core/topology.hpp"

namespace vm::mem::numa {

/// What the kernel can be asked for; set_mempolicy(2) says what each means.
enum class Mode : std::uint8_t {
  preferred,       ///< one node, and the others once it is full (MPOL_PREFERRED)
  bind,            ///< these nodes and no others (MPOL_BIND)
  interleave,      ///< page after page round these nodes; others once all are full (MPOL_INTERLEAVE)
  preferred_many,  ///< these nodes, and the others once they are full (MPOL_PREFERRED_MANY, Linux 5.15)
};
/// "preferred", "bind", "interleave", "preferred-many".
const char* to_string(Mode mode) noexcept;

/// Where memory shall lie. A plain value, made by its functions.
class NumaPolicy {
 public:
  enum class Kind : std::uint8_t { local, bind, interleave, preferred_many };

  /// `preferred_node`, or the node of the CPU on which the thread that allocates runs at that moment. With `fallback`
  /// other nodes serve when it is full, and the nearest one when it has no memory or this process may not use it;
  /// without, both are errors.
  static NumaPolicy local(std::optional<int> preferred_node = std::nullopt, bool fallback = true);
  /// These nodes and no others. `home_node`: of them, those nearest to it first (set_mempolicy_home_node, Linux 5.17).
  static NumaPolicy bind(std::vector<int> nodes, std::optional<int> home_node = std::nullopt);
  /// Page after page round these nodes; without nodes, round all that have memory and that this process may use.
  static NumaPolicy interleave(std::vector<int> nodes = {});
  /// These nodes, and others when they are full (Linux 5.15). `home_node` as for `bind`.
  static NumaPolicy preferred_many(std::vector<int> nodes, std::optional<int> home_node = std::nullopt);

  Kind kind() const noexcept { return kind_; }
  /// Ascending, each once. For `local` the preferred node or nothing; empty for an interleaving over all.
  const std::vector<int>& nodes() const noexcept { return nodes_; }
  std::optional<int> home_node() const noexcept { return home_node_; }
  /// Whether pages elsewhere are better than none. Never for `bind`; always for `interleave` and `preferred_many`.
  bool fallback() const noexcept { return fallback_; }
  /// "local(1, no fallback)", "bind(0-1)": for messages.
  std::string text() const;

  friend bool operator==(const NumaPolicy& a, const NumaPolicy& b) {
    return a.kind_ == b.kind_ && a.nodes_ == b.nodes_ && a.home_node_ == b.home_node_ && a.fallback_ == b.fallback_;
  }
  friend bool operator!=(const NumaPolicy& a, const NumaPolicy& b) { return !(a == b); }

 private:
  NumaPolicy(Kind kind, std::vector<int> nodes, std::optional<int> home_node, bool fallback);

  Kind kind_;
  std::vector<int> nodes_;
  std::optional<int> home_node_;
  bool fallback_;
};

/// What a decision needs to know of the thread that asks.
struct Caller {
  int cpu = 0;                     ///< where it runs
  std::vector<int> allowed_nodes;  ///< whose memory its cgroup lets it use, ascending; empty: not known, so all
};

/// What to ask the kernel for.
struct Decision {
  Mode mode = Mode::preferred;
  std::vector<int> nodes;        ///< ascending, never empty
  std::optional<int> home_node;  ///< for `bind` and `preferred_many`
  bool strict = false;           ///< a page elsewhere is an error
  bool everywhere = false;       ///< there is no usable memory but on `nodes`: nothing can lie elsewhere
  std::string reason;            ///< why it is not what the policy names first; empty when it is

  /// "bind to nodes 0-1, those near node 1 first".
  std::string text() const;
};

/// Throws OutOfRange for a node or CPU that the topology does not have, NotSupported for one whose memory cannot be
/// used (it has none, or the cgroup forbids it) where the policy leaves no other, InvalidConfig for a policy without
/// nodes.
Decision decide(const NumaPolicy& policy, const Topology& topology, const Caller& caller);

}  // namespace vm::mem::numa
