// SPDX-License-Identifier: BSL-1.0
#include "runtime/queue_client.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <carom/errors.hpp>
#include <system_error>
#include <utility>
#include <vector>

#include "runtime/above_stdio.hpp"
#include "runtime/clock.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/queue_wait.hpp"

// What a process does with a queue: gets, asks. How it puts is in queue_client_put.cpp, how its
// threads wait in queue_wait.hpp and queue_client_wait.cpp.
namespace carom::runtime {

using detail::queue_received;
using detail::queue_wait;
using serialization::pack_queue_message;
using serialization::queue_message;

namespace {

/// A host that does not answer for so long is stopped.
constexpr std::chrono::seconds most_patience{60};
/// Or is for those who do not want to wait: a busy machine may take that long.
constexpr std::chrono::seconds patience_of_a_look{1};
/// How old the knowledge may be that the host lives, where nothing else would tell.
constexpr std::int64_t check_every_ns = 1'000'000;

unique_fd make_nudge() {
  unique_fd made = try_above_stdio(unique_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
  if (!made) throw std::system_error(errno, std::system_category(), "eventfd");
  return made;
}

}  // namespace

queue_client::queue_client(const ends& its)
    : queue_client(its, channel::make_pair(),
                   make_shared_memory("carom-queue-page", sizeof(queue_page))) {}

queue_client::queue_client(const ends& its, std::pair<channel, channel> pair, unique_fd memory) try
    : ends_(its),
      channel_(std::move(pair.first)),
      nudge_(make_nudge()),
      memory_(memory.get(), sizeof(queue_page), mapping::access::read_write),
      page_(reinterpret_cast<queue_page*>(memory_.data())),
      items_(page_->rings),
      puts_(page_->rings) {
  page_->magic = queue_page_magic;
  page_->puts.store(put_word{0, its.maxsize != 0 ? 0 : unbounded_grant}.word());
  const unique_fd self = open_pidfd(::getpid());
  if (!self) throw std::system_error(errno, std::system_category(), "pidfd_open");
  struct stat status {};
  ::fstat(channel_.fd(), &status);
  channel_inode_ = status.st_ino;

  const std::array<int, 3> fds{memory.get(), pair.second.fd(), self.get()};
  channel door(unique_fd(::fcntl(its.door, F_DUPFD_CLOEXEC, 3)));
  if (!door) throw std::system_error(errno, std::system_category(), "connecting to a queue");
  if (!send_through(door, pack_queue_message({.kind = kind::knock}), fds, patience())) {
    expect_usable();
    throw_no_answer();
  }
} catch (const interrupted& by) {
  pass_on(by);
}

queue_client::~queue_client() { (void)channel_.send(pack_queue_message({.kind = kind::leave})); }

void queue_client::abandon() noexcept {
  // Somebody may have closed here what he took for private: only what is still the channel is
  // closed.
  struct stat status {};
  unique_fd socket = channel_.release();
  if (::fstat(socket.get(), &status) != 0 || status.st_ino != channel_inode_)
    (void)socket.release();
  (void)nudge_.release();
}

/// False if the time is up, or nobody is at the other end, which is then noted.
bool queue_client::send_through(channel& to, const std::vector<std::byte>& bytes,
                                std::span<const int> fds, deadline until) {
  for (;;) {
    const std::error_code error = to.send(bytes, fds);
    if (!error) return true;
    const bool too_many = error == std::error_code(ETOOMANYREFS, std::system_category());
    if (error == channel_errc::end_of_file) {
      broken_ = why_gone();
      return false;
    }
    if (error != std::errc::operation_would_block && error != std::errc::no_buffer_space &&
        error != std::errc::not_enough_memory && !too_many)
      throw std::system_error(error, "sending to a queue");
    if (until && std::chrono::steady_clock::now() >= *until) return false;
    wait_to_send(to.fd(), !too_many && error == std::errc::operation_would_block, until);
  }
}

void queue_client::throw_no_answer() {
  throw process_error("the queue's host does not answer: it is stopped, or overloaded");
}

void queue_client::send(const queue_message& message, std::span<const int> fds) {
  if (send_through(channel_, pack_queue_message(message), fds, patience())) return;
  expect_usable();
  throw_no_answer();
}

void queue_client::expect_usable() const {
  if (!broken_.empty()) throw process_error(broken_);
}

void queue_client::expect_open() const {
  if (closed_)
    throw process_error(
        "this process has closed the queue: it puts nothing more; close() belongs behind the last "
        "put");
}

/// The host may have died without a word while it was awake, when nobody rings it.
void queue_client::check_host() {
  const std::int64_t now = steady_ns();
  if (now - checked_ns_ < check_every_ns) return;
  checked_ns_ = now;
  std::array<pollfd, 2> looked{{{channel_.fd(), 0, 0}, {ends_.host_pidfd, POLLIN, 0}}};
  if (::poll(looked.data(), looked.size(), 0) <= 0) return;
  if (looked[0].revents) receive_all(false);
  if (looked[1].revents && broken_.empty()) broken_ = why_gone();
}

void queue_client::ring_host() {
  auto& armed = page_->rings.header.host_armed;
  if (armed.load(std::memory_order_seq_cst) == 0 || armed.exchange(0) == 0) return;
  // If the host's queue is full it has messages to wake for.
  const std::error_code error = channel_.send(pack_queue_message({.kind = kind::look}));
  if (error == channel_errc::end_of_file) broken_ = why_gone();
  // Who comes next rings.
  if (is_shortage(error)) armed.store(1, std::memory_order_seq_cst);
}

// --- get -----------------------------------------------------------------------------------------

bool queue_client::try_get(queue_received& into) {
  const task_slot* slot = items_.claim(0, [this](const task_slot& skipped) {
    if (!(skipped.flags & (flag_segment | flag_descriptors))) return;
    receive_all(false);
    kept_.erase(skipped.task_id);
  });
  if (!slot) return false;
  struct leave {
    queue_client* self;
    ~leave() {
      self->items_.leave();
      std::atomic_thread_fence(std::memory_order_seq_cst);
      auto& armed = self->page_->takes_armed;
      if (armed.load(std::memory_order_seq_cst) == 0 || armed.exchange(0) == 0) return;
      (void)self->channel_.send(pack_queue_message({.kind = kind::look}));
    }
  } const at_the_end{this};
  read_item(*slot, into);
  return true;
}

void queue_client::read_item(const task_slot& slot, queue_received& into) {
  const std::uint32_t flags = slot.flags;
  const std::uint64_t key = slot.task_id, length = slot.length;
  kept came;
  if (flags & (flag_segment | flag_descriptors)) {
    receive_all(false);
    if (auto found = kept_.find(key); found != kept_.end()) {
      came = std::move(found->second);
      kept_.erase(found);
    }
  }
  into.descriptors = std::move(came.descriptors);
  if (!(flags & flag_segment)) {
    const auto payload = items_.payload(slot);
    if (!payload) throw process_error("the queue's host has delivered what cannot be");
    into.local.assign(*payload);
    return;
  }
  if (!came.memory || !is_sealed_memory(came.memory.get(), length) || length == 0)
    throw encoding_error(
        "a large item of a queue was lost on its way: a process had no free descriptor; close "
        "some, or raise RLIMIT_NOFILE");
  auto memory = std::make_shared<mapping>(came.memory.get(), length, mapping::access::read);
  into.large = {memory->data(), length};
  into.hold = std::move(memory);
}

bool queue_client::get(queue_received& into, const queue_wait& until) try {
  lock held = enter();
  const auto ready = [&] {
    if (try_get(into)) return true;
    expect_usable();
    return false;
  };
  bool look = at_once(until);
  deadline answered = time_for_answer(until);
  if (!look && !closed_) {
    bool alone = false;
    const bool in_time = wait(held, deadline_of(until), &page_->item_wants, false, [&] {
      alone = false;
      return ready() || (alone = closed_);
    });
    if (in_time && !alone) return true;
    if (!in_time) {
      look = true;
      answered = last_patience();
    }
  }
  while (!ready()) {
    const auto there = request(held, kind::take, answered, true);
    if (there.value_or(0) != 0) continue;
    if (look || (!there && until.timeout)) return false;
    if (!there) throw_no_answer();
    throw process_error(
        "this process has closed the queue and nothing is in it: it would wait for others");
  }
  return true;
} catch (const interrupted& by) {
  pass_on(by);
}

// --- the rest ------------------------------------------------------------------------------------

std::uint64_t queue_client::ask(kind what) try {
  lock held = enter();
  const auto answer = request(held, what, patience(), true);
  if (!answer) throw_no_answer();
  return *answer;
} catch (const interrupted& by) {
  pass_on(by);
}

bool queue_client::join(const queue_wait& until) try {
  lock held = enter();
  const deadline in_time = deadline_of(until);
  const auto left = request(held, kind::unfinished, time_for_answer(until), true);
  if (!left && in_time && in_time < std::chrono::steady_clock::now()) return false;
  if (!left) throw_no_answer();
  if (*left == 0) return true;
  return request(held, kind::join, in_time, false).has_value();
} catch (const interrupted& by) {
  pass_on(by);
}

/// The answer; nothing if the time is up.
std::optional<std::uint64_t> queue_client::request(lock& held, kind what, deadline until,
                                                   bool brief) {
  struct pending {
    queue_client* self;
    std::uint64_t id;
    bool forget;
    ~pending() {
      const auto it = self->answers_.find(id);
      if (forget && !it->second && self->broken_.empty())
        (void)self->channel_.send(pack_queue_message({.kind = kind::forget, .id = id}));
      self->answers_.erase(it);
    }
  } const asked{this, ++last_request_, what == kind::join};
  answers_[asked.id];
  expect_usable();
  if (!send_through(channel_, pack_queue_message({.kind = what, .id = asked.id}), {},
                    until ? std::min(until, patience()) : patience())) {
    expect_usable();
    return std::nullopt;
  }
  wait(held, until, nullptr, brief, [&] {
    if (answers_[asked.id]) return true;
    expect_usable();
    return false;
  });
  return answers_[asked.id];
}

void queue_client::close() {
  lock held = enter();
  closed_ = true;
  wake_all();
}

bool queue_client::flush(const queue_wait& until) {
  lock held = enter();
  if (!closed_)
    throw process_error("join_thread() waits for a queue that is closed: call close() first");
  return wait(held, deadline_of(until), nullptr, true, [&] {
    if (page_->rings.header.result_head.load(std::memory_order_acquire) == position_) return true;
    expect_usable();
    return false;
  });
}

bool queue_client::at_once(const queue_wait& until) {
  return until.now || (until.timeout && until.timeout->count() <= 0);
}

queue_client::deadline queue_client::deadline_of(const queue_wait& until) {
  if (!until.timeout) return std::nullopt;
  return std::chrono::steady_clock::now() + *until.timeout;
}

std::string queue_client::why_gone() const {
  // Who ends closes his descriptors a moment before he has ended.
  constexpr std::chrono::milliseconds moment{200};
  if (ends_.host_pidfd < 0 ||
      !ends_before(ends_.host_pidfd, std::chrono::steady_clock::now() + moment))
    return "the queue's host has let go of this process: it has no memory or no free descriptor for "
           "it, or too many use the queue; its log says which";
  return "the queue's host is gone, and with it what was in the queue: the process that made the "
         "queue must live as long as it is used";
}

queue_client::deadline queue_client::patience() {
  return std::chrono::steady_clock::now() + most_patience;
}

queue_client::deadline queue_client::patience_of_look() {
  return std::chrono::steady_clock::now() + patience_of_a_look;
}

/// Who has a time keeps it, but for the moment that an answer takes.
queue_client::deadline queue_client::time_for_answer(const queue_wait& until) {
  if (at_once(until)) return patience_of_look();
  if (!until.timeout) return patience();
  return std::min(std::max(deadline_of(until), last_patience()), patience());
}

queue_client::deadline queue_client::last_patience() {
  // A host that lives answers much faster.
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
}

}  // namespace carom::runtime
