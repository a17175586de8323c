// SPDX-License-Identifier: BSL-1.0
#include "runtime/memfd.hpp"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "runtime/above_stdio.hpp"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace carom::runtime {

unique_fd make_memfd(const char* name) noexcept {
  constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  unique_fd made(::memfd_create(name, flags | MFD_NOEXEC_SEAL));
  if (!made && errno == EINVAL) made.reset(::memfd_create(name, flags));  // before Linux 6.3
  return try_above_stdio(std::move(made));
}

bool memfd_may_have(std::size_t size) noexcept {
  rlimit most{};
  return ::getrlimit(RLIMIT_FSIZE, &most) != 0 || most.rlim_cur == RLIM_INFINITY ||
         size <= most.rlim_cur;
}

unique_fd make_memfd(const char* name, std::size_t size) {
  unique_fd made = make_memfd(name);
  if (!made) throw std::system_error(errno, std::generic_category(), "cannot make shared memory");
  if (!memfd_may_have(size))
    throw std::system_error(EFBIG, std::generic_category(),
                            "shared memory of " + std::to_string(size) +
                                " bytes is more than this process's RLIMIT_FSIZE allows");
  if (::ftruncate(made.get(), static_cast<off_t>(size)) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot size shared memory");
  return made;
}

}  // namespace carom::runtime
