# SPDX-License-Identifier: BSL-1.0
include(GoogleTest)

# carom_add_tests(<folder> [INIT] [PURE]): the binary test_<folder> out of tests/<folder>/*.cpp.
# PURE: its tests touch nothing outside of themselves. The builds under sanitizers, where a process takes half a second
# to begin, run all of them in one.
# INIT: its main is tests/support/main.cpp, which calls carom::init before anything else.
# Without CAF (CAROM_CORE_ONLY) it takes the sources that do not see it nor use pools, and GoogleTest's main; and not
# *_kill_test.cpp, whose subject is other processes, which ThreadSanitizer does not see.
function(carom_add_tests folder)
  cmake_parse_arguments(arg "INIT;PURE" "" "" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cpp")
  if(CAROM_CORE_ONLY)
    carom_split_by_caf(ignored sources ${sources})
    list(FILTER sources EXCLUDE REGEX "_kill_test\\.cpp$")
    foreach(file IN LISTS sources)
      file(STRINGS "${file}" pools REGEX "^#include <carom/(pool|carom)\\.hpp>")
      if(pools)
        list(REMOVE_ITEM sources "${file}")
      endif()
    endforeach()
  endif()
  if(NOT sources)
    return()
  endif()

  set(main GTest::gtest_main)
  if(arg_INIT AND NOT CAROM_CORE_ONLY)
    list(APPEND sources "${CMAKE_CURRENT_SOURCE_DIR}/support/main.cpp")
    set(main "")
  endif()
  add_executable(test_${folder} ${sources})
  target_include_directories(test_${folder} PRIVATE "${PROJECT_SOURCE_DIR}")
  if(TARGET carom_test_support)
    target_link_libraries(test_${folder} PRIVATE carom_test_support)
  endif()
  target_link_libraries(test_${folder} PRIVATE carom_internal GTest::gmock GTest::gtest ${main})
  target_precompile_headers(test_${folder} PRIVATE <gtest/gtest.h>)

  if(arg_PURE AND CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
    add_test(NAME ${folder} COMMAND test_${folder})
    set_tests_properties(${folder} PROPERTIES TIMEOUT ${CAROM_TEST_TIMEOUT} LABELS ${folder})
    return()
  endif()
  # Listed when CTest starts, not while building: a sanitized binary may need `setarch -R` to run at all.
  gtest_discover_tests(test_${folder}
    DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 NO_PRETTY_TYPES NO_PRETTY_VALUES
    PROPERTIES TIMEOUT ${CAROM_TEST_TIMEOUT} LABELS ${folder})
endfunction()
