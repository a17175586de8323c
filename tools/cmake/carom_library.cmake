# SPDX-License-Identifier: BSL-1.0
# Target `carom` (`carom::carom`), and `carom_internal`, what tests and fuzzers of the rooms' insides link.

if(CAROM_CORE_ONLY)
  add_library(carom_internal STATIC
    $<TARGET_OBJECTS:carom_serialization> $<TARGET_OBJECTS:carom_runtime> $<TARGET_OBJECTS:carom_cores>)
  target_link_libraries(carom_internal PUBLIC Boost::serialization spdlog::spdlog OpenSSL::Crypto Threads::Threads)
  target_include_directories(carom_internal PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
  return()
endif()

set(rooms
  $<TARGET_OBJECTS:carom_serialization> $<TARGET_OBJECTS:carom_runtime>
  $<TARGET_OBJECTS:carom_cores> $<TARGET_OBJECTS:carom_actors>)

add_library(carom ${rooms})
add_library(carom::carom ALIAS carom)
file(GLOB_RECURSE public_headers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/include/carom/*.hpp")
target_sources(carom PUBLIC
  FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}/include" FILES ${public_headers})
target_compile_features(carom PUBLIC cxx_std_20)
target_link_libraries(carom
  PUBLIC Boost::serialization spdlog::spdlog CAF::core Threads::Threads
  PRIVATE OpenSSL::Crypto)
# A task's address travels as (build-id of its module, offset): every module needs one.
target_link_options(carom PUBLIC LINKER:--build-id)
set_target_properties(carom PROPERTIES
  LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})

# In a shared carom the rooms' insides are hidden; their tests link the same objects as a static library.
if(BUILD_SHARED_LIBS)
  add_library(carom_internal STATIC ${rooms})
  target_link_libraries(carom_internal PUBLIC Boost::serialization spdlog::spdlog CAF::core OpenSSL::Crypto Threads::Threads)
  target_link_options(carom_internal PUBLIC LINKER:--build-id)
else()
  add_library(carom_internal INTERFACE)
  target_link_libraries(carom_internal INTERFACE carom)
endif()
target_include_directories(carom_internal INTERFACE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
