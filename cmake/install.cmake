# What `cmake --install` lays down: headers, library, the CMake package and unroll.pc.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/unroll)
set(pkgconfig_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(TARGETS unroll EXPORT unrollTargets)
install(EXPORT unrollTargets NAMESPACE unroll:: DESTINATION ${package_dir})
install(FILES unroll.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/unroll)
foreach(folder IN LISTS folders)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${folder}/*.h)
  list(FILTER headers EXCLUDE REGEX "-inl\\.h$")  # vector code, which nobody else compiles
  foreach(header IN LISTS headers)
    cmake_path(GET header PARENT_PATH place)
    install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/unroll/${place})
  endforeach()
endforeach()

configure_package_config_file(cmake/unrollConfig.cmake.in unrollConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(unrollConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/unrollConfig.cmake ${PROJECT_BINARY_DIR}/unrollConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/unrollBlas.cmake
        DESTINATION ${package_dir})

# `pkg-config --libs unroll` has to link as it stands, so a static library names what it calls in Libs and not in Libs.private.
list(GET OpenBLAS_LIBRARIES 0 blas)
cmake_path(GET blas PARENT_PATH blas_dir)
cmake_path(NORMAL_PATH blas_dir)
set(private_link "-L\"${blas_dir}\" -lopenblas -pthread")
set(pc_libs ${private_link})
set(pc_libs_private)
if(UNROLL_SHARED)
  set(pc_libs)
  set(pc_libs_private ${private_link})
endif()
# Found from where the file lies, so the installed tree can be moved.
cmake_path(IS_ABSOLUTE CMAKE_INSTALL_LIBDIR anchored)
if(anchored)
  file(RELATIVE_PATH pc_prefix ${pkgconfig_dir} ${CMAKE_INSTALL_PREFIX})
else()
  file(RELATIVE_PATH pc_prefix /${pkgconfig_dir} /)
endif()
foreach(dir IN ITEMS libdir includedir)
  string(TOUPPER CMAKE_INSTALL_${dir} given)
  set(pc_${dir} "\${prefix}")
  cmake_path(APPEND pc_${dir} ${${given}})  # which an absolute one replaces
endforeach()
configure_file(cmake/unroll.pc.in unroll.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/unroll.pc DESTINATION ${pkgconfig_dir})
