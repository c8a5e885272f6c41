#pragma once
/// \file
/// The file of a snapshot.
///
/// A header of 64 bytes, a table of sections of 32 bytes each, then the sections without gaps, in this order: machine,
/// slots, VM state, one per vCPU, bitmap of pages, checksums of blocks, memory. Memory holds the pages that are not
/// zeros, in the order of the image; a block is 256 of them. Header, table, sections and blocks have a CRC-32C each, so
/// that every byte of the file is covered. Numbers have the byte order of the machine, which a mark in the header
/// tells.

#include <string>

#include "vm/accel/snapshot/snapshot.hpp"

namespace vm::accel {

/// See Snapshot::save.
void save_snapshot_file(const SnapshotParts& parts, const std::string& path);
/// See Snapshot::load.
SnapshotParts load_snapshot_file(const std::string& path);

}  // namespace vm::accel
