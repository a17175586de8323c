// SPDX-License-Identifier: BSL-1.0
#include "runtime/worker_link.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include "runtime/modules.hpp"

namespace carom::runtime {

using namespace serialization;

namespace {

/// A worker that asks for more has lost its mind.
constexpr std::ptrdiff_t most_idle_results = 1024;
/// Who never stops talking holds nobody else up.
constexpr int most_at_once = 32;
constexpr std::int32_t most_log_level = 5;  // spdlog's critical
constexpr std::size_t most_descriptors = 4 * detail::descriptor_list::most;

/// Whether a message that was not sent may be sent later.
bool passes(const std::error_code& error) {
  return error == std::errc::operation_would_block || is_shortage(error);
}

}  // namespace

worker_link::worker_link(std::uint64_t worker_id, const setup_message& setup)
    : worker_link(worker_id, setup, channel::make_pair(),
                  make_shared_memory("carom-worker-page", sizeof(worker_page))) {}

worker_link::worker_link(std::uint64_t worker_id, const setup_message& setup,
                         std::pair<channel, channel> ends, unique_fd memory)
    : channel_(std::move(ends.first)),
      worker_end_(std::move(ends.second)),
      memory_(memory.get(), sizeof(worker_page), mapping::access::read_write),
      page_(reinterpret_cast<worker_page*>(memory_.data())),
      tasks_(*page_),
      results_(*page_),
      modules_told_(setup.inherited_modules + setup.modules.size()) {
  page_->header.magic = page_magic;
  page_->header.worker_id = worker_id;
  // From the first result on: the link begins with nothing to poll.
  page_->header.host_armed.store(1, std::memory_order_relaxed);

  auto packed = pack_message(worker_message_kind::setup, setup);
  if (packed.size() <= channel::max_bytes) {
    send(std::move(packed), {memory.get()});
    return;
  }
  // A large initializer: the set-up itself goes through memory.
  unique_fd carrier = make_shared_memory("carom-setup", packed.size());
  {
    mapping at(carrier.get(), packed.size(), mapping::access::read_write);
    std::memcpy(at.data(), packed.data(), packed.size());
  }
  send(pack_message(worker_message_kind::setup), {memory.get(), carrier.get()});
}

bool worker_link::write(task_frame&& frame, const detail::blob& payload) {
  if (module_count() != modules_told_) tell_new_modules();
  if (payload.segment()) {
    const segment* held = argument_segments::instance().share(payload);
    if (!held) return false;
    if (!tickets_told_.contains(held->ticket)) {
      if (!tell_segment(*held, false)) return false;
      tickets_told_.insert(held->ticket);
    }
    frame.flags |= flag_segment;
    frame.ticket = held->ticket;
    frame.length = payload.size();
  } else {
    frame.payload = payload.bytes();
  }
  if (!payload.has_descriptors()) return tasks_.write(frame).has_value();
  frame.flags |= flag_descriptors;
  const auto position = tasks_.write(frame);
  if (!position) return false;
  if (send_descriptors(*position, *payload.find_descriptors())) return true;
  tasks_.revoke(*position);  // not shown yet: the worker skips it
  return false;
}

bool worker_link::send_descriptors(std::uint64_t key, const detail::descriptor_list& list) {
  const auto all = list.entries();
  for (std::size_t at = 0; at < all.size(); at += channel::max_fds) {
    descriptors_message told{key, {}};
    std::vector<int> fds;
    for (const auto& one : all.subspan(at, std::min(channel::max_fds, all.size() - at))) {
      told.tickets.push_back(one.ticket);
      fds.push_back(one.fd);
    }
    if (!send(pack_message(worker_message_kind::descriptors, told), std::move(fds))) return false;
  }
  return true;
}

detail::descriptor_list worker_link::take_descriptors(std::uint64_t position) {
  message received;
  for (;;) {
    const std::error_code error = channel_.receive(received);
    if (error && error != channel_errc::descriptors_lost) break;
    if (kind_of(received.bytes) != worker_message_kind::descriptors || !store_descriptors(received))
      put_off_.push_back(std::move(received));
  }
  const auto it = descriptors_.find(position);
  if (it == descriptors_.end()) return {};
  detail::descriptor_list taken = std::move(it->second);
  descriptors_.erase(it);
  descriptor_count_ -= taken.size();
  return taken;
}

/// False if it is not as it must be. Descriptors that were lost on the way (this process has no
/// free ones) are missed by whoever unpacks the value.
bool worker_link::store_descriptors(message& received) {
  descriptors_message told;
  try {
    told = unpack_message<descriptors_message>(received.bytes);
  } catch (const encoding_error&) {
    return false;
  }
  if (told.tickets.size() > channel::max_fds ||
      descriptor_count_ + received.fds.size() > most_descriptors)
    return false;
  auto& list = descriptors_[told.key];
  if (received.fds.size() != told.tickets.size()) return received.fds.empty();
  for (std::size_t i = 0; i < told.tickets.size(); ++i)
    list.adopt(told.tickets[i], received.fds[i].release());
  descriptor_count_ += told.tickets.size();
  return true;
}

void worker_link::publish() {
  if (tasks_.publish()) send(pack_message(worker_message_kind::tasks));
}

void worker_link::release_results(std::uint64_t count) {
  results_.release(count);
  if (tasks_.take_waiter(worker_wait::results)) send(pack_message(worker_message_kind::tasks));
}

void worker_link::leave() { send(pack_message(worker_message_kind::leave)); }

void worker_link::forget_segment(std::uint64_t ticket) {
  if (tickets_told_.erase(ticket))
    send(pack_message(worker_message_kind::forget, ticket_message{ticket}));
}

void worker_link::tell_new_modules() {
  for (; modules_told_ < module_count(); ++modules_told_) {
    const module_info info = module_at(modules_told_);
    send(pack_message(worker_message_kind::module, module_record{info.build_id, info.path}));
  }
}

bool worker_link::tell_segment(const segment& told, bool writable) {
  return send(pack_message(worker_message_kind::segment,
                           segment_message{told.ticket, told.memory.size(), writable}),
              {told.fd.get()});
}

bool worker_link::send(std::vector<std::byte> bytes, std::vector<int> fds) {
  // Bells are not counted: a worker that is awake need not look for them.
  const bool bell =
      bytes.size() == 1 && bytes[0] == static_cast<std::byte>(worker_message_kind::tasks);
  const auto count = [&] {
    if (!bell) page_->header.control_count.fetch_add(1, std::memory_order_seq_cst);
  };
  if (unsent_.empty()) {
    const std::error_code error = transmit(bytes, fds);
    starved_ = is_shortage(error);
    if (!error) {
      count();
      return true;
    }
    // A dead worker's death is told elsewhere; a full channel wakes without another bell.
    if (!passes(error) || (bell && !starved_)) return true;
  } else if (bell) {
    return true;
  }
  unsent_message late{std::move(bytes), {}};
  for (int fd : fds) {
    late.fds.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    // Without its descriptor it is no message: a worker that counts on it would wait for ever.
    if (!late.fds.back()) return false;
  }
  unsent_.push_back(std::move(late));
  count();
  return true;
}

/// With descriptors that the kernel refuses for good the message goes without: the worker counts on
/// it, and what it was for misses them.
std::error_code worker_link::transmit(std::span<const std::byte> bytes, std::span<const int> fds) {
  const std::error_code error = channel_.send(bytes, fds);
  if (!error || fds.empty() || passes(error) || error == channel_errc::end_of_file) return error;
  return channel_.send(bytes);
}

void worker_link::flush() {
  starved_ = false;
  while (!unsent_.empty()) {
    std::vector<int> fds;
    for (const unique_fd& fd : unsent_.front().fds) fds.push_back(fd.get());
    const std::error_code error = transmit(unsent_.front().bytes, fds);
    starved_ = is_shortage(error);
    if (passes(error)) return;
    unsent_.pop_front();
  }
}

bool worker_link::read(listener& to) {
  message received;
  while (!put_off_.empty()) {
    received = std::move(put_off_.front());
    put_off_.pop_front();
    receive(received, to);
  }
  has_more_ = false;
  for (int left = most_at_once; left != 0; --left) {
    const std::error_code error = channel_.receive(received);
    if (!error || error == channel_errc::descriptors_lost)
      receive(received, to);
    else if (error == channel_errc::oversized)
      to.worker_corrupt("it sent a message that no worker sends");
    else
      return error == std::errc::operation_would_block;
  }
  has_more_ = true;
  return true;
}

void worker_link::receive(message& received, listener& to) {
  const auto kind = kind_of(received.bytes);
  try {
    switch (kind.value_or(worker_message_kind::setup)) {
      case worker_message_kind::results: return to.worker_rang();
      case worker_message_kind::ready: return to.worker_ready();
      case worker_message_kind::start_failed:
        return to.worker_start_failed(std::span<const std::byte>(received.bytes).subspan(1));
      case worker_message_kind::need_segment:
        return grant_segment(unpack_message<need_segment_message>(received.bytes).bytes, to);
      case worker_message_kind::descriptors:
        if (!store_descriptors(received))
          to.worker_corrupt("it sent descriptors that nobody can have sent");
        return;
      case worker_message_kind::logged: {
        const auto told = unpack_message<log_message>(received.bytes);
        if (told.level < 0 || told.level > most_log_level ||
            told.text.size() > log_message::most_text)
          return to.worker_corrupt("it logged what cannot be logged");
        return to.worker_logged(told.level, told.text);
      }
      case worker_message_kind::dropped: {
        // One of its results', or one of ours that it could not map: it is told of that again.
        const auto ticket = unpack_message<ticket_message>(received.bytes).ticket;
        result_segments_.erase(ticket);
        tickets_told_.erase(ticket);
        return;
      }
      default: to.worker_corrupt("it sent a message that no worker sends");
    }
  } catch (const encoding_error&) {
    to.worker_corrupt("it sent a message that cannot be read");
  }
}

void worker_link::grant_segment(std::uint64_t bytes, listener& to) {
  // What callers hold is their business; what lies idle here is the worker's.
  const auto idle = std::count_if(result_segments_.begin(), result_segments_.end(),
                                  [](const auto& one) { return !one.second->lent; });
  if (idle >= most_idle_results)
    return to.worker_corrupt("it asked for more segments than a worker uses");
  try {
    if (bytes > (std::uint64_t{1} << 46)) throw std::bad_alloc();
    constexpr std::uint64_t page = 4096;
    const std::uint64_t size = (bytes + segment::header_size + page - 1) / page * page;
    auto granted = std::make_shared<segment>(size, true);
    if (!tell_segment(*granted, true)) throw std::bad_alloc();
    result_segments_.emplace(granted->ticket, granted);
    granted->fd.reset();  // this worker has its own now, and nobody else gets one
  } catch (const std::exception&) {
    // No ticket: the worker turns that into the task's error.
    send(pack_message(worker_message_kind::segment, segment_message{}));
  }
}

result_frame worker_link::open_items(std::uint64_t position) const {
  const open_run& open = page_->open;
  result_frame frame{.position = position, .kind = result_kind::items};
  const std::uint64_t count = open.count.load(std::memory_order_acquire);
  const std::uint64_t length = open.length;
  if (open.position != position || length > open_run::most_bytes) return frame;
  frame.first = open.first;
  frame.count = count;
  frame.payload = std::span(open.bytes).first(length);
  return frame;
}

std::shared_ptr<segment> worker_link::lend(std::uint64_t ticket, std::uint64_t length) {
  const auto it = result_segments_.find(ticket);
  if (it == result_segments_.end() || length > it->second->capacity) return nullptr;
  if (it->second->lent.exchange(true)) return nullptr;
  if (std::exchange(it->second->warm, false))
    warm_->bytes.fetch_sub(it->second->capacity, std::memory_order_relaxed);
  return it->second;
}

}  // namespace carom::runtime
