# Kernels for one instruction set live in one file each, compiled with that file's own flags; nothing else is.
#
# Such a file must keep everything it defines or instantiates in an anonymous namespace, apart from its entry points:
# an inline function shared with other files may be emitted here with the wider instructions, and the linker may pick
# this copy for everybody.

include(CheckCXXSourceCompiles)

# vm_add_kernels(<target> <AVX|AVX2|AVX512|SVE> <source>...) adds the sources to the target when the compiler can build
# them for this processor family, and then defines VM_HAVE_<set>_KERNELS on the target (PRIVATE).
function(vm_add_kernels target set)
  set(family "defined(__x86_64__) || defined(_M_X64)")
  set(header immintrin.h)
  if(set STREQUAL "AVX")
    set(header_test "__m256 v = _mm256_set1_ps(1); return _mm256_movemask_ps(v);")
    set(gnu_flags -mavx)
    set(msvc_flags /arch:AVX)
  elseif(set STREQUAL "AVX2")
    set(header_test "__m256i v = _mm256_set1_epi64x(1); return _mm256_extract_epi32(v, 0) - 1;")
    set(gnu_flags -mavx2 -mbmi -mbmi2)
    set(msvc_flags /arch:AVX2)
  elseif(set STREQUAL "AVX512")
    set(header_test "__m512i v = _mm512_mullo_epi64(_mm512_set1_epi64(1), _mm512_set1_epi64(1));
                     return static_cast<int>(_mm512_reduce_add_epi64(v)) - 8;")
    set(gnu_flags -mavx512f -mavx512dq -mavx512vl -mavx512bw -mbmi -mbmi2)
    set(msvc_flags /arch:AVX512)
  elseif(set STREQUAL "SVE")
    set(family "defined(__aarch64__)")
    set(header arm_sve.h)
    set(header_test "return static_cast<int>(svcntp_b8(svptrue_b8(), svptrue_b8())) - static_cast<int>(svcntb());")
    set(gnu_flags -march=armv8-a+sve)
    set(msvc_flags)
  else()
    message(FATAL_ERROR "vm_add_kernels: unknown instruction set '${set}'; use AVX, AVX2, AVX512 or SVE.")
  endif()
  if(MSVC)
    set(flags ${msvc_flags})
  else()
    set(flags ${gnu_flags})
  endif()

  list(JOIN flags " " CMAKE_REQUIRED_FLAGS)
  check_cxx_source_compiles(
    "#if !(${family})
     #error another processor family
     #endif
     #include <${header}>
     int main() { ${header_test} }"
    VM_COMPILER_KNOWS_${set})
  if(NOT VM_COMPILER_KNOWS_${set})
    return()
  endif()

  list(TRANSFORM ARGN PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/" OUTPUT_VARIABLE sources)
  target_sources(${target} PRIVATE ${sources})
  set_source_files_properties(${sources} TARGET_DIRECTORY ${target} PROPERTIES COMPILE_OPTIONS "${flags}")
  target_compile_definitions(${target} PRIVATE VM_HAVE_${set}_KERNELS)
endfunction()
