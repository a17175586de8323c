# SPDX-License-Identifier: BSL-1.0
# cmake -D WAY=find_package|add_subdirectory … -P: configures, builds and runs this project against carom.

set(work "${CAROM_BUILD}/consumer/${WAY}")
set(carom "")
if(WAY STREQUAL "find_package")
  set(prefix "${work}-prefix")
  file(REMOVE_RECURSE "${prefix}" "${work}")
  execute_process(COMMAND "${CMAKE_COMMAND}" --install "${CAROM_BUILD}" --prefix "${prefix}"
    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  set(carom "-DCMAKE_PREFIX_PATH=${prefix}")
else()
  # All of carom is compiled once more: whether it links is the question, not how fast it is. Whether
  # each file compiles alone is what the preset `dev` is for.
  set(carom "-DCAROM_SOURCE=${CAROM_SOURCE}" "-DBUILD_SHARED_LIBS=${SHARED}" -DCMAKE_CXX_FLAGS_RELEASE=-O0
    -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=10)
endif()

find_program(ccache ccache)
set(launcher "")
if(ccache)
  set(launcher "-DCMAKE_CXX_COMPILER_LAUNCHER=env\;CCACHE_SLOPPINESS=pch_defines,time_macros\;${ccache}")
endif()

execute_process(
  COMMAND "${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}" -B "${work}" -G "${GENERATOR}" ${carom}
    "-DCMAKE_CXX_COMPILER=${COMPILER}" ${launcher} -DCMAKE_BUILD_TYPE=Release
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${work}" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${work}/consumer" OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
if(NOT output STREQUAL "49\n")
  message(FATAL_ERROR "the consumer printed `${output}`, expected 49")
endif()
