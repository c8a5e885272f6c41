# Chooses where vm::core learns the machine's topology from, and how vm::mem binds memory, and says so.

set(VM_HAVE_HWLOC OFF)
# pkg-config would answer for the build machine, so a cross build has to ask for hwloc explicitly.
if(VM_HWLOC STREQUAL "ON" OR (VM_HWLOC STREQUAL "AUTO" AND NOT CMAKE_CROSSCOMPILING))
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(HWLOC QUIET IMPORTED_TARGET "hwloc>=2.0")
  endif()
  if(HWLOC_FOUND)
    set(VM_HAVE_HWLOC ON)
  elseif(VM_HWLOC STREQUAL "ON")
    message(FATAL_ERROR "VM_HWLOC=ON, but pkg-config finds no hwloc >= 2.0. Install it (Debian: apt-get install "
                        "libhwloc-dev pkg-config) or configure with -DVM_HWLOC=OFF.")
  endif()
endif()

if(VM_HAVE_HWLOC)
  message(STATUS "vm: topology through hwloc ${HWLOC_VERSION}")
  foreach(library IN ITEMS vm_core vm_mem)
    target_link_libraries(${library} PRIVATE PkgConfig::HWLOC)
    target_compile_definitions(${library} PRIVATE VM_HAVE_HWLOC)
  endforeach()
else()
  message(STATUS "vm: topology through sysfs (hwloc ${VM_HWLOC}; for hwloc install libhwloc-dev and pkg-config)")
endif()
