# vm_add_test, vm_add_benchmark, vm_add_fuzzer, and where GoogleTest and Google Benchmark come from.

include(FetchContent)
include(GoogleTest)
include(VmTarget)

# Makes <target> available: an installed package first, then a pinned source archive, else a FATAL_ERROR that says what
# to do. A macro, because find_package and FetchContent set variables in the caller's scope.
macro(vm_require_dependency)
  cmake_parse_arguments(dependency "" "PACKAGE;TARGET;URL;SHA256;DEBIAN;OPTION" "" ${ARGN})
  find_package(${dependency_PACKAGE} QUIET)
  if(TARGET ${dependency_TARGET})
    message(STATUS "vm: ${dependency_PACKAGE} ${${dependency_PACKAGE}_VERSION} from ${${dependency_PACKAGE}_DIR}")
  else()
    string(TOLOWER ${dependency_PACKAGE} dependency_name)
    string(TOUPPER ${dependency_PACKAGE} dependency_upper)
    if(NOT FETCHCONTENT_SOURCE_DIR_${dependency_upper})
      # Downloaded by hand first: FetchContent's own failure is a page of sub-build output.
      set(dependency_archive "${CMAKE_BINARY_DIR}/_deps/${dependency_name}.tar.gz")
      file(DOWNLOAD ${dependency_URL} "${dependency_archive}" STATUS dependency_status TIMEOUT 60
           EXPECTED_HASH SHA256=${dependency_SHA256})
      list(GET dependency_status 0 dependency_code)
      if(dependency_code)
        list(GET dependency_status 1 dependency_why)
        file(REMOVE "${dependency_archive}")
        message(
          FATAL_ERROR
            "${dependency_PACKAGE} is needed and not installed, and ${dependency_URL} cannot be fetched "
            "(${dependency_why}). Install it (Debian: apt-get install ${dependency_DEBIAN}) or configure with "
            "-D${dependency_OPTION}=OFF.")
      endif()
    endif()
    message(STATUS "vm: ${dependency_PACKAGE} built from source")
    FetchContent_Declare(${dependency_name} URL "${dependency_archive}" URL_HASH SHA256=${dependency_SHA256}
                         DOWNLOAD_EXTRACT_TIMESTAMP TRUE)
    FetchContent_MakeAvailable(${dependency_name})
  endif()
endmacro()

macro(vm_require_googletest)
  if(NOT TARGET GTest::gtest_main)
    set(INSTALL_GTEST OFF)
    set(gtest_force_shared_crt ON)
    vm_require_dependency(
      PACKAGE GTest TARGET GTest::gtest_main DEBIAN libgtest-dev OPTION VM_BUILD_TESTS
      URL https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
      SHA256 8ad598c73ad796e0d8280b082cebd82a630d73e73cd3c70057938a6501bba5d7)
  endif()
endmacro()

macro(vm_require_benchmark)
  if(NOT TARGET benchmark::benchmark_main)
    set(BENCHMARK_ENABLE_TESTING OFF)
    set(BENCHMARK_ENABLE_INSTALL OFF)
    vm_require_dependency(
      PACKAGE benchmark TARGET benchmark::benchmark_main DEBIAN libbenchmark-dev OPTION VM_BUILD_BENCHMARKS
      URL https://github.com/google/benchmark/archive/refs/tags/v1.8.3.tar.gz
      SHA256 6bc180a57d23d4d9515519f92b0c83d61b05b5bab188961f36ac7b06b0d9e9ce)
  endif()
endmacro()

# vm_add_test(<name> SOURCES <file>... LINK <target>... [LABELS <label>...] [DEFINITIONS <definition>...])
# A GoogleTest executable `test_<name>`; every test case becomes one ctest entry. Label what starts threads `concurrent`.
function(vm_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK;LABELS;DEFINITIONS")
  add_executable(test_${name} ${arg_SOURCES})
  vm_configure_target(test_${name})
  if(VM_SANITIZE)
    target_compile_options(test_${name} PRIVATE -O0) # half the time to compile; the library keeps its -O1
  endif()
  target_link_libraries(test_${name} PRIVATE ${arg_LINK} GTest::gtest_main)
  target_compile_definitions(test_${name} PRIVATE ${arg_DEFINITIONS})
  if(arg_LABELS)
    set(properties PROPERTIES LABELS "${arg_LABELS}")
  endif()
  gtest_discover_tests(test_${name} TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 120 ${properties})
endfunction()

# vm_add_benchmark(<name> SOURCES <file>... LINK <target>...)
# A Google Benchmark executable bench_<name> in <build>/bench.
function(vm_add_benchmark name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK")
  add_executable(bench_${name} ${arg_SOURCES})
  vm_configure_target(bench_${name})
  target_link_libraries(bench_${name} PRIVATE ${arg_LINK} benchmark::benchmark_main)
  set_target_properties(bench_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bench")
endfunction()

# vm_add_fuzzer(<name> SOURCES <file>... LINK <target>...)
# A libFuzzer executable <build>/fuzz/<name>; its corpus is tests/fuzz/corpus/<name>/.
function(vm_add_fuzzer name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK")
  add_executable(fuzz_${name} ${arg_SOURCES})
  vm_configure_target(fuzz_${name})
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(fuzz_${name} PRIVATE ${arg_LINK})
  set_target_properties(fuzz_${name} PROPERTIES OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY
                                                                    "${CMAKE_BINARY_DIR}/fuzz")
endfunction()

# vm_add_rooms(<room>...) adds the folder of each room that has a CMakeLists.txt here.
macro(vm_add_rooms)
  foreach(room IN ITEMS ${ARGN})
    if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${room}/CMakeLists.txt")
      add_subdirectory(${room})
    endif()
  endforeach()
endmacro()
