#pragma once
/// \file
/// Which things that a guest does are for the user to decide: accesses to model-specific registers, hypercalls, idling.

#include <cstdint>
#include <set>
#include <vector>

namespace vm::accel {

/// Accesses to model-specific registers that become RdMsr and WrMsr exits instead of a fault in the guest.
struct MsrExits {
  bool invalid = false;   ///< the value, or the access, makes no sense
  bool unknown = false;   ///< the hypervisor does not know the register
  bool filtered = false;  ///< the filter denies it
};

/// What a filter says about the registers from `base` on.
struct MsrRange {
  std::uint32_t base = 0;
  std::vector<bool> allowed;  ///< one per register
  bool reads = true;          ///< whether it speaks about reads
  bool writes = true;
};

/// Accesses that are denied fault in the guest, or exit when MsrExits::filtered is set. The first range that has the
/// register and speaks about the kind of access decides.
struct MsrFilter {
  bool deny_others = false;  ///< what no range speaks about is denied
  std::vector<MsrRange> ranges;
};

/// Throws InvalidConfig for a filter that KVM would refuse or could not keep: more than 16 ranges, a range without
/// registers or with more than 12288, one that passes 2^32 or speaks about nothing, one over the x2APIC's registers
/// (0x800-0x8ff), which are never filtered; `deny_others` without a range.
void check_msr_filter(const MsrFilter& filter);

/// Things that a guest may do without an exit, for a guest that has its processors for itself.
struct FreeRein {
  bool mwait = false;
  bool hlt = false;
  bool pause = false;
  bool cstate = false;
};

/// Implemented by backends. Any thread may call anything at once. Every call throws PlatformError when the hypervisor
/// refuses, NotSupported naming the capability that is missing; then nothing has changed.
class ExitPolicy {
 public:
  virtual ~ExitPolicy() = default;

  virtual void set_msr_exits(MsrExits exits) = 0;
  /// Replaces the filter; one without ranges lets everything pass. Throws InvalidConfig as check_msr_filter.
  virtual void set_msr_filter(const MsrFilter& filter) = 0;
  /// The hypercalls, by number, that become Hypercall exits. Throws NotSupported for one that cannot.
  virtual void set_hypercall_exits(const std::set<unsigned>& numbers) = 0;
  /// The hypercalls that can.
  virtual std::set<unsigned> possible_hypercall_exits() const = 0;
  /// For good, before the first vCPU. Throws NotSupported for what this processor or hypervisor cannot give,
  /// InvalidConfig when there is a vCPU.
  virtual void disable_exits(FreeRein what) = 0;
};

}  // namespace vm::accel
