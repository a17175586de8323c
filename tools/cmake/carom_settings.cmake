# SPDX-License-Identifier: BSL-1.0
# What holds for every target of this tree. Parents that add carom as a subdirectory keep their own flags:
# warnings and the compiler cache are set only when carom is the top.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
if(BUILD_SHARED_LIBS)
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
endif()

# What carom calls elsewhere is found when a program is loaded. Found at its first call, it would be looked for in each
# forked process anew, which faults in a page of every library on the way.
add_compile_options(-fno-plt)

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
  endif()

  add_compile_options(-Wall -Wextra -Wpedantic ${CAROM_EXTRA_WARNINGS})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # g++ 12 sees overlaps in std::string's operator+ that are none (PR105651). What it says of the insides of an inlined
    # std::optional or std::string is as often wrong: read it, but it stops no build.
    add_compile_options(-Wno-restrict -Wno-error=maybe-uninitialized -Wno-error=array-bounds)
  endif()

  # Precompiled headers and a compiler cache agree only with these two kinds of sloppiness (ccache(1), "Precompiled headers").
  find_program(CAROM_CCACHE ccache)
  mark_as_advanced(CAROM_CCACHE)
  if(CAROM_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros "${CAROM_CCACHE}")
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      add_compile_options(-fpch-preprocess)
    endif()
  endif()
endif()
