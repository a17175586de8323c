# SPDX-License-Identifier: BSL-1.0
# carom as others build against it: installed and found, and added as a subdirectory.

foreach(way IN ITEMS find_package add_subdirectory)
  add_test(NAME consumer.${way} COMMAND
    "${CMAKE_COMMAND}" -D WAY=${way} -D "CAROM_SOURCE=${PROJECT_SOURCE_DIR}" -D "CAROM_BUILD=${PROJECT_BINARY_DIR}"
    -D "COMPILER=${CMAKE_CXX_COMPILER}" -D "GENERATOR=${CMAKE_GENERATOR}"
    -D "SHARED=${BUILD_SHARED_LIBS}"
    -P "${PROJECT_SOURCE_DIR}/tests/consumer/run.cmake")
  # They compile on every core: alone, so that no test beside them waits for its processes.
  set_tests_properties(consumer.${way} PROPERTIES TIMEOUT 900 RUN_SERIAL TRUE LABELS consumer)
endforeach()
