# Python extension modules on top of the static libraries. Used by packages/*/CMakeLists.txt only.

include(VmTarget)
set(PYBIND11_FINDPYTHON ON)
# A range, because scikit-build-core puts the surrounding environment on CMAKE_PREFIX_PATH, with whatever pybind11 lives
# there; minor versions of pybind11 do not share their registries.
find_package(pybind11 3.1...<3.2 CONFIG REQUIRED)

option(VM_QUICK_BINDINGS "Compile bindings, which only convert and call, in half the time: for builds to be tested" OFF)

# vm_add_python_module(<module> LINK <target>...) declares the extension module; src/bind/CMakeLists.txt adds its sources.
# The package's own version must be the library's.
function(vm_add_python_module module)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LINK")
  get_directory_property(version DIRECTORY "${VM_CPP_DIR}" DEFINITION PROJECT_VERSION)
  if(DEFINED SKBUILD_PROJECT_VERSION AND NOT SKBUILD_PROJECT_VERSION STREQUAL version)
    message(FATAL_ERROR "pyproject.toml says version ${SKBUILD_PROJECT_VERSION}, cpp/CMakeLists.txt says ${version}; "
                        "make them equal.")
  endif()
  # NO_EXTRAS: no link-time optimization. The hot loops live in the libraries, and a module links in a second.
  pybind11_add_module(${module} NO_EXTRAS)
  vm_configure_target(${module})
  if(VM_SANITIZE OR VM_QUICK_BINDINGS)
    target_compile_options(${module} PRIVATE -O0)
  endif()
  target_compile_definitions(${module} PRIVATE VM_VERSION="${version}")
  target_link_libraries(${module} PRIVATE ${arg_LINK})
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    # A module that uses nothing of hwloc must not load it.
    target_link_options(${module} PRIVATE LINKER:--as-needed)
  endif()
  install(TARGETS ${module} LIBRARY DESTINATION .)
endfunction()
