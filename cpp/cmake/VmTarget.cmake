# How every target of this project is compiled: standard, warnings, visibility, sanitizers.

option(VM_WARNINGS_AS_ERRORS "Treat compiler warnings as errors" ${PROJECT_IS_TOP_LEVEL})
set(VM_SANITIZE "" CACHE STRING "Sanitizers, comma separated: address,undefined or thread")

# vm_configure_target(<target>) gives an executable, library or Python module the project's compile settings.
function(vm_configure_target target)
  target_compile_features(${target} PUBLIC cxx_std_17)
  set_target_properties(
    ${target}
    PROPERTIES CXX_EXTENSIONS OFF
               POSITION_INDEPENDENT_CODE ON
               CXX_VISIBILITY_PRESET hidden
               VISIBILITY_INLINES_HIDDEN ON)
  if(MSVC)
    target_compile_options(${target} PRIVATE /W4 /permissive- /utf-8 $<$<BOOL:${VM_WARNINGS_AS_ERRORS}>:/WX>)
  else()
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                                             $<$<BOOL:${VM_WARNINGS_AS_ERRORS}>:-Werror>)
  endif()
  if(VM_SANITIZE)
    if(MSVC)
      message(FATAL_ERROR "VM_SANITIZE=${VM_SANITIZE} needs GCC or Clang; this is ${CMAKE_CXX_COMPILER_ID}.")
    endif()
    # A finding must fail the run: by default UBSan only prints. -O1 keeps stacks readable and compiles twice as fast;
    # -g1 has the lines that stacks show.
    set(flags -fsanitize=${VM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g1)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # The checks that a sanitizer adds hide from GCC what is initialized; its manual warns of the false warnings.
      list(APPEND flags -Wno-maybe-uninitialized -Wno-uninitialized)
    endif()
    target_compile_options(${target} PRIVATE ${flags})
    target_link_options(${target} PRIVATE ${flags})
  endif()
endfunction()

# vm_add_library(<room> [LINK <target>...]) declares the static library vm_<room>, alias vm::<room>. Its sources are
# added by the CMakeLists.txt of its rooms under src/.
function(vm_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LINK")
  add_library(vm_${name} STATIC)
  add_library(vm::${name} ALIAS vm_${name})
  vm_configure_target(vm_${name})
  target_include_directories(
    vm_${name}
    PUBLIC "$<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>"
    PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/src")
  target_link_libraries(vm_${name} PUBLIC Threads::Threads ${arg_LINK})
  set_target_properties(vm_${name} PROPERTIES EXPORT_NAME ${name} LINKER_LANGUAGE CXX)
endfunction()
