#pragma once
/// \file
/// `VM_API` marks the types whose identity must be the same in every module that meets them: exceptions and polymorphic
/// bases. Everything else stays hidden, because each Python extension links the library statically.

#if defined(_WIN32)
#define VM_API
#else
#define VM_API __attribute__((visibility("default")))
#endif
