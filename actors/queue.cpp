// SPDX-License-Identifier: BSL-1.0
#include <unistd.h>

#include <carom/queue.hpp>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

#include "actors/queue_server.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/queue_handle.hpp"

namespace carom::detail {

std::shared_ptr<queue_handle> make_queue(std::int64_t maxsize, bool joinable) {
  if (maxsize < 0)
    throw std::invalid_argument("a queue's maxsize is " + std::to_string(maxsize) +
                                "; choose 1 or more, or 0 for no bound");
  auto loop = runtime::host_runtime::acquire_loop();
  queue_handle::description of;
  of.maxsize = static_cast<std::uint64_t>(maxsize);
  of.joinable = joinable;
  of.host_pidfd = runtime::open_pidfd(::getpid());
  if (!of.host_pidfd) throw std::system_error(errno, std::system_category(), "pidfd_open");
  auto here = actors::queue_server::start(loop, {.maxsize = of.maxsize}, of.door);
  return queue_handle::begin(std::move(of), std::move(here), std::move(loop));
}

}  // namespace carom::detail
