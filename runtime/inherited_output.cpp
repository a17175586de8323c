// SPDX-License-Identifier: BSL-1.0
#include "runtime/inherited_output.hpp"

#include <dlfcn.h>
#include <stdio.h>
#include <stdio_ext.h>

#include <fstream>
#include <iostream>

namespace carom::runtime {
namespace {

#ifdef __GLIBC__
/// The first of all streams of the process; each has the next one. Looked up, and before main: a
/// program that is linked with it has a copy that does not change, and in a forked copy the lock of
/// the dynamic linker may be held by a thread that is not there.
FILE** const first_stream = static_cast<FILE**>(::dlsym(RTLD_DEFAULT, "_IO_list_all"));
#endif

/// Where a stream is not in step with the C streams it has a buffer of its own.
template <class Char>
struct output_buffer : std::basic_filebuf<Char> {
  using base = std::basic_streambuf<Char>;

  static void drop(base* of) {
    if (!dynamic_cast<std::basic_filebuf<Char>*>(of)) return;
    Char* const begin = (of->*&output_buffer::pbase)();
    if (begin) (of->*&output_buffer::setp)(begin, (of->*&output_buffer::epptr)());
  }
};

}  // namespace

void drop_inherited_output() noexcept {
#ifdef __GLIBC__
  for (FILE* stream = first_stream ? *first_stream : stdout; stream; stream = stream->_chain)
    if (::__fpending(stream) != 0) ::__fpurge(stream);
#else
  ::__fpurge(stdout);
  ::__fpurge(stderr);
#endif
  output_buffer<char>::drop(std::cout.rdbuf());
  output_buffer<char>::drop(std::clog.rdbuf());
  output_buffer<wchar_t>::drop(std::wcout.rdbuf());
  output_buffer<wchar_t>::drop(std::wclog.rdbuf());
}

}  // namespace carom::runtime
