# unroll::blas, OpenBLAS with its cblas.h. Read by our own build and, of an installed static library, by its users' builds.
if(TARGET unroll::blas)
  return()
endif()

find_package(OpenBLAS CONFIG QUIET)
if(NOT OpenBLAS_FOUND)
  find_path(OpenBLAS_INCLUDE_DIRS cblas.h PATH_SUFFIXES openblas REQUIRED)
  find_library(OpenBLAS_LIBRARIES openblas REQUIRED)
endif()

add_library(unroll::blas INTERFACE IMPORTED GLOBAL)
set_target_properties(unroll::blas PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${OpenBLAS_INCLUDE_DIRS}"
  INTERFACE_LINK_LIBRARIES "${OpenBLAS_LIBRARIES}")
