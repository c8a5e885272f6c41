#pragma once
/// \file
/// Facets of a backend, handed out.

#include <memory>

#include "vm/core/error.hpp"

namespace vm::accel {

/// What `get` of `backend` answers; it keeps the backend alive. Throws NotSupported with `otherwise` for null.
template <class Backend, class Facet>
std::shared_ptr<Facet> facet_of(const std::shared_ptr<Backend>& backend, Facet* (Backend::*get)() noexcept,
                                const char* otherwise) {
  Facet* facet = (backend.get()->*get)();
  if (facet == nullptr) throw NotSupported(otherwise);
  return std::shared_ptr<Facet>(backend, facet);
}

}  // namespace vm::accel
