# Installs headers, libraries and the CMake package `vm`.

include(CMakePackageConfigHelpers)
set(config_dir "${CMAKE_INSTALL_LIBDIR}/cmake/vm")

install(TARGETS vm_core vm_mem vm_accel EXPORT vmTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/vm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT vmTargets NAMESPACE vm:: DESTINATION ${config_dir})

configure_package_config_file(cmake/vmConfig.cmake.in vmConfig.cmake INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(vmConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/vmConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/vmConfigVersion.cmake"
        DESTINATION ${config_dir})
