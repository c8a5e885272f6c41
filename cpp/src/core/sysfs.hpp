#pragma once
/// \file
/// Reads Linux's /sys and /proc under any root, so that tests can lay out a machine of their own. What is there is
/// parsed strictly: text that is not what the kernel documents is InvalidConfig with the file's name.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vm/core/cache.hpp"

namespace vm::sysfs {

/// The file's text without trailing white space; nothing when it cannot be read. Reads at most 1 MiB.
std::optional<std::string> read_text(const std::string& path);

/// Names in a directory, sorted; nothing when it cannot be read.
std::optional<std::vector<std::string>> list_directory(const std::string& path);

/// A decimal number, nothing around it. \throws InvalidConfig naming `where`.
std::uint64_t parse_number(std::string_view text, const std::string& where);

/// "0x00000000410fd0c0" or the same without 0x. \throws InvalidConfig naming `where`.
std::uint64_t parse_hexadecimal(std::string_view text, const std::string& where);

/// "48K", "2M", "64": bytes. \throws InvalidConfig naming `where`.
std::uint64_t parse_size(std::string_view text, const std::string& where);

/// "0-3,8,10-11": ascending, without repeats; empty text is the empty list. \throws InvalidConfig naming `where`.
std::vector<int> parse_cpu_list(std::string_view text, const std::string& where);

/// The caches of one CPU, by level and type; empty when the kernel does not describe them.
std::vector<Cache> read_caches(const std::string& root, int cpu);

}  // namespace vm::sysfs
