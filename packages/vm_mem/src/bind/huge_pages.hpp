#pragma once
/// \file
/// The word `huge_pages` of several constructors.

#include <optional>
#include <string>

#include "vm/mem/pages/mapping.hpp"

/// None, "auto", "transparent", "2M" or "1G". Throws InvalidConfig on anything else.
vm::mem::HugePages parse_huge_pages(const std::optional<std::string>& name);
