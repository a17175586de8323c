# SPDX-License-Identifier: BSL-1.0
# cmake -D CASE=<file> -D COMMANDS=<compile_commands.json> -P: see tests/compile_fail/CMakeLists.txt.

file(STRINGS "${CASE}" first LIMIT_COUNT 1)
if(NOT first MATCHES "^// expect: (.+)$")
  message(FATAL_ERROR "${CASE}: the first line must be `// expect: REGEX`")
endif()
set(expected "${CMAKE_MATCH_1}")

get_filename_component(name "${CASE}" NAME)
file(STRINGS "${COMMANDS}" commands REGEX "\"command\": .*/compile_fail\\.dir/${name}\\.o ")
if(NOT commands MATCHES "\"command\": \"([^;]*) -o [^ ]* -c ")
  message(FATAL_ERROR "${CASE} is not in ${COMMANDS}")
endif()
separate_arguments(compile UNIX_COMMAND "${CMAKE_MATCH_1}")
list(APPEND compile -fsyntax-only -fdiagnostics-color=never -fmessage-length=0)

execute_process(COMMAND ${compile} -DFIXED "${CASE}" RESULT_VARIABLE status ERROR_VARIABLE output)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${CASE} with -DFIXED must compile, and does not:\n${output}")
endif()

execute_process(COMMAND ${compile} "${CASE}" RESULT_VARIABLE status ERROR_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR "${CASE} compiles; expected an error that matches: ${expected}")
endif()
if(NOT output MATCHES "error: [^\n]*${expected}")
  message(FATAL_ERROR "${CASE}: no error matches: ${expected}\nThe compiler says:\n${output}")
endif()
