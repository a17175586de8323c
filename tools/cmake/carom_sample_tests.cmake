# SPDX-License-Identifier: BSL-1.0
# Every sample runs; `hash_tree` also has to agree with sha256sum, undisturbed and while its workers are killed.

get_property(samples GLOBAL PROPERTY CAROM_SAMPLES)
foreach(sample IN LISTS samples)
  if(sample STREQUAL "hash_tree")
    set(same "${PROJECT_SOURCE_DIR}/tools/checks/same_as_sha256sum")
    add_test(NAME Samples.hash_tree COMMAND "${same}" $<TARGET_FILE:hash_tree> "${PROJECT_SOURCE_DIR}/include")
    add_test(NAME Samples.hash_tree_chaos COMMAND
      "${same}" $<TARGET_FILE:hash_tree> /usr/include/boost --chaos 100)
    set_tests_properties(Samples.hash_tree_chaos PROPERTIES TIMEOUT ${CAROM_TEST_TIMEOUT} LABELS samples)
  elseif(sample STREQUAL "map_reduce")
    add_test(NAME Samples.map_reduce COMMAND map_reduce "${PROJECT_SOURCE_DIR}/LICENSE")
  elseif(sample STREQUAL "preload")
    add_test(NAME Samples.preload COMMAND preload 64)
  else()
    add_test(NAME Samples.${sample} COMMAND ${sample})
  endif()
  set_tests_properties(Samples.${sample} PROPERTIES TIMEOUT ${CAROM_TEST_TIMEOUT} LABELS samples)
endforeach()
