#include "vm/mem/numa/policy.hpp"

#include <algorithm>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::mem::numa {

namespace {

bool holds(const std::vector<int>& sorted, int id) { return std::binary_search(sorted.begin(), sorted.end(), id); }

std::string nodes_text(const std::vector<int>& nodes) {
  return (nodes.size() == 1 ? "node " : "nodes ") + cpu_list(nodes);
}

/// The topology with the questions of a decision.
class Nodes {
 public:
  Nodes(const Topology& topology, const Caller& caller) : topology_(topology), caller_(caller) {
    for (const NumaNode& node : topology.nodes) {
      ids_.push_back(node.id);
      memory_known_ = memory_known_ || node.memory_bytes != 0;
    }
    for (const NumaNode& node : topology.nodes) {
      if (why_not(node).empty()) usable_.push_back(node.id);
    }
    if (usable_.empty()) throw NotSupported("no node of " + nodes_text(ids_) + " has memory that this process may use");
  }

  const std::vector<int>& usable() const { return usable_; }

  const NumaNode& require(int id) const {
    const auto found = std::find_if(topology_.nodes.begin(), topology_.nodes.end(),
                                    [id](const NumaNode& node) { return node.id == id; });
    if (found != topology_.nodes.end()) return *found;
    throw OutOfRange("there is no node " + std::to_string(id) + "; the nodes are " + cpu_list(ids_) + " (by " +
                         topology_.source + ")",
                     static_cast<std::uint64_t>(id), 1);
  }

  /// Why the memory of a node cannot be used; empty when it can.
  std::string why_not(const NumaNode& node) const {
    // When no node's memory is known, nothing can be said against one.
    if (memory_known_ && node.memory_bytes == 0) return "node " + std::to_string(node.id) + " has no memory";
    if (!caller_.allowed_nodes.empty() && !holds(caller_.allowed_nodes, node.id)) {
      return "this process may use the memory of " + nodes_text(caller_.allowed_nodes) + " only (cgroup cpuset), not " +
             std::to_string(node.id);
    }
    return {};
  }

  void require_usable(int id) const {
    const std::string reason = why_not(require(id));
    if (!reason.empty()) throw NotSupported(reason + "; choose of " + nodes_text(usable_));
  }

  /// By distance, then by number; by number alone when the distances are not known.
  int nearest_usable(int id) const {
    return *std::min_element(usable_.begin(), usable_.end(), [this, id](int a, int b) {
      return std::make_pair(distance(id, a), a) < std::make_pair(distance(id, b), b);
    });
  }

 private:
  std::uint64_t distance(int from, int to) const {
    const auto position = [this](int id) {
      return static_cast<std::size_t>(std::find(ids_.begin(), ids_.end(), id) - ids_.begin());
    };
    return topology_.distances.empty() ? 0 : topology_.distances.at(position(from)).at(position(to));
  }

  const Topology& topology_;
  const Caller& caller_;
  std::vector<int> ids_;
  std::vector<int> usable_;
  bool memory_known_ = false;
};

Decision decide_local(const NumaPolicy& policy, const Topology& topology, const Nodes& nodes, const Caller& caller) {
  const NumaNode& wanted =
      policy.nodes().empty() ? topology.node_of(caller.cpu) : nodes.require(policy.nodes().front());
  Decision decision;
  decision.mode = policy.fallback() ? Mode::preferred : Mode::bind;
  decision.strict = !policy.fallback();
  decision.nodes = {wanted.id};
  const std::string reason = nodes.why_not(wanted);
  if (reason.empty()) return decision;
  const int near = nodes.nearest_usable(wanted.id);
  if (!policy.fallback()) {
    throw NotSupported(reason + "; allow a fallback, or choose node " + std::to_string(near) + ", the nearest");
  }
  decision.nodes = {near};
  decision.reason = reason + "; node " + std::to_string(near) + " is the nearest";
  return decision;
}

Decision decide_preferred_many(const NumaPolicy& policy, const Nodes& nodes) {
  Decision decision;
  decision.mode = Mode::preferred_many;
  for (const int id : policy.nodes()) {
    const std::string reason = nodes.why_not(nodes.require(id));
    if (reason.empty()) {
      decision.nodes.push_back(id);
    } else {
      decision.reason += (decision.reason.empty() ? "" : "; ") + reason;
    }
  }
  if (decision.nodes.empty()) throw NotSupported(decision.reason + "; choose of " + nodes_text(nodes.usable()));
  return decision;
}

}  // namespace

const char* to_string(Mode mode) noexcept {
  switch (mode) {
    case Mode::preferred: return "preferred";
    case Mode::bind: return "bind";
    case Mode::interleave: return "interleave";
    case Mode::preferred_many: break;
  }
  return "preferred-many";
}

NumaPolicy::NumaPolicy(Kind kind, std::vector<int> nodes, std::optional<int> home_node, bool fallback)
    : kind_(kind), nodes_(std::move(nodes)), home_node_(home_node), fallback_(fallback) {
  std::sort(nodes_.begin(), nodes_.end());
  nodes_.erase(std::unique(nodes_.begin(), nodes_.end()), nodes_.end());
}

NumaPolicy NumaPolicy::local(std::optional<int> preferred_node, bool fallback) {
  std::vector<int> nodes;
  if (preferred_node) nodes.push_back(*preferred_node);
  return {Kind::local, std::move(nodes), std::nullopt, fallback};
}

NumaPolicy NumaPolicy::bind(std::vector<int> nodes, std::optional<int> home_node) {
  return {Kind::bind, std::move(nodes), home_node, false};
}

NumaPolicy NumaPolicy::interleave(std::vector<int> nodes) {
  return {Kind::interleave, std::move(nodes), std::nullopt, true};
}

NumaPolicy NumaPolicy::preferred_many(std::vector<int> nodes, std::optional<int> home_node) {
  return {Kind::preferred_many, std::move(nodes), home_node, true};
}

std::string NumaPolicy::text() const {
  const std::string list = cpu_list(nodes_);
  const std::string home = home_node_ ? ", home " + std::to_string(*home_node_) : "";
  switch (kind_) {
    case Kind::local: {
      const std::string separator = list.empty() || fallback_ ? "" : ", ";
      return "local(" + list + separator + (fallback_ ? "" : "no fallback") + ")";
    }
    case Kind::bind: return "bind(" + list + home + ")";
    case Kind::interleave: return "interleave(" + list + ")";
    case Kind::preferred_many: break;
  }
  return "preferred-many(" + list + home + ")";
}

std::string Decision::text() const {
  std::string text = std::string(to_string(mode)) + (mode == Mode::bind ? " to " : " ") + nodes_text(nodes);
  if (home_node) text += ", those near node " + std::to_string(*home_node) + " first";
  return text;
}

Decision decide(const NumaPolicy& policy, const Topology& topology, const Caller& caller) {
  const Nodes nodes(topology, caller);
  Decision decision;
  switch (policy.kind()) {
    case NumaPolicy::Kind::local: decision = decide_local(policy, topology, nodes, caller); break;
    case NumaPolicy::Kind::bind:
    case NumaPolicy::Kind::preferred_many: {
      if (policy.nodes().empty()) throw InvalidConfig(policy.text() + " names no node; name at least one");
      if (policy.kind() == NumaPolicy::Kind::preferred_many) {
        decision = decide_preferred_many(policy, nodes);
        break;
      }
      for (const int id : policy.nodes()) nodes.require_usable(id);
      decision.mode = Mode::bind;
      decision.nodes = policy.nodes();
      decision.strict = true;
      break;
    }
    case NumaPolicy::Kind::interleave:
      for (const int id : policy.nodes()) nodes.require_usable(id);
      decision.mode = Mode::interleave;
      decision.nodes = policy.nodes().empty() ? nodes.usable() : policy.nodes();
      break;
  }
  if (policy.home_node()) decision.home_node = nodes.require(*policy.home_node()).id;
  decision.everywhere =
      std::includes(decision.nodes.begin(), decision.nodes.end(), nodes.usable().begin(), nodes.usable().end());
  return decision;
}

}  // namespace vm::mem::numa
