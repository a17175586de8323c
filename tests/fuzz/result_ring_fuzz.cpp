// SPDX-License-Identifier: BSL-1.0
#include "runtime/result_ring.hpp"

#include <carom/detail/exception_codec.hpp>
#include <carom/detail/map_state.hpp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "actors/outcomes.hpp"
#include "runtime/worker_link.hpp"

// Bytes as what a corrupt worker left in its page: result slots, and how many there are. They are
// read as the supervisor reads them, for a task or for a chunk of a map; then the caller reads what
// came of it. The worker has segments, so that tickets can be meant.

namespace {

using namespace carom;
using namespace carom::runtime;

void must(bool holds) {
  if (!holds) std::abort();
}

/// The link of a worker that has been granted two segments.
class granted_link {
 public:
  granted_link() : link_(1, serialization::setup_message{.worker_id = 1}) {
    channel worker(link_.take_worker_end());
    struct : worker_link::listener {
      void worker_ready() override {}
      void worker_start_failed(std::span<const std::byte>) override {}
      void worker_rang() override {}
      void worker_logged(int, const std::string&) override {}
      void worker_corrupt(const char*) override { std::abort(); }
    } nobody;
    for (std::uint64_t& ticket : tickets) {
      using serialization::worker_message_kind;
      must(!worker.send(pack_message(worker_message_kind::need_segment,
                                     serialization::need_segment_message{4'000})));
      must(link_.read(nobody));
      message answer;
      do must(!worker.receive(answer));
      while (serialization::kind_of(answer.bytes) != worker_message_kind::segment);
      ticket = serialization::unpack_message<serialization::segment_message>(answer.bytes).ticket;
    }
  }
  worker_link& get() { return link_; }
  std::uint64_t tickets[2]{};

 private:
  worker_link link_;
};

struct input {
  const std::uint8_t* data;
  std::size_t size;

  template <class T>
  T take() {
    T value{};
    const std::size_t count = std::min(sizeof value, size);
    std::memcpy(&value, data, count);
    data += count;
    size -= count;
    return value;
  }
};

const detail::task_type any_type{nullptr, "int", false};

/// As supervisor::take_result; true once the task is over.
bool take(detail::task_node& task, const result_frame& frame, worker_link& from, bool& corrupt) {
  const bool chunk = task.chunk() != nullptr;
  switch (frame.kind) {
    case result_kind::items:
    case result_kind::item_error:
      corrupt = !chunk || !actors::take_items(task, frame, from);
      return false;
    case result_kind::chunk_done:
      corrupt = !chunk || !actors::take_last_items(task, frame, from);
      return !corrupt;
    case result_kind::value:
      corrupt = chunk || !actors::take_payload(task, frame, from);
      return !corrupt;
    case result_kind::error:
      corrupt = chunk ? !actors::take_chunk_error(task, frame, from)
                      : !actors::take_payload(task, frame, from);
      return !corrupt;
  }
  std::abort();
}

/// Whatever the values are, each item has its outcome.
template <class R>
void read_as_the_caller(const detail::task_node& task) {
  std::uint64_t items = 0;
  detail::read_chunk<R>(
      task, [&](R&&) { ++items; }, [&](const std::exception_ptr&) { ++items; });
  must(items == task.chunk()->count);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static granted_link link;
  static const auto page = std::make_unique<worker_page>();
  input in{data, size};

  const auto shape = in.take<std::uint8_t>();
  const bool chunk = shape & 1, stop_at_error = shape & 2;
  const std::uint64_t count =
      1 + in.take<std::uint16_t>() % 40;  // errors are unpacked item by item
  detail::task_ref task(chunk ? detail::make_chunk(any_type, nullptr, nullptr, count, stop_at_error)
                              : detail::task_ref(new detail::task_node(any_type, nullptr)));
  detail::task_ref parent;
  if (chunk && shape & 4) {
    parent = detail::task_ref(new detail::task_node(any_type, nullptr));
    parent->extra().map = std::make_unique<detail::map_state>();
    parent->extra().map->unsettled = 1;
    parent->extra().map->stop_at_error = stop_at_error;
    parent->retain();  // the pool's, which the last chunk lets go
    task->chunk()->parent = parent.get();
  }

  result_consumer results(*page);
  page->header.result_tail = shape & 8 ? in.take<std::uint64_t>() : in.take<std::uint8_t>();
  std::uint64_t slots = 0;
  for (; slots < ring_slots && in.size != 0; ++slots) {
    page->results[slots] = in.take<result_slot>();
    // Tickets that exist are few among all numbers.
    auto& payload = page->results[slots].payload;
    if (page->results[slots].flags & flag_segment && payload < 2) payload = link.tickets[payload];
  }

  const std::uint64_t available = results.available();
  if (available <= ring_slots) {
    bool corrupt = false, over = false;
    for (std::uint64_t i = 0; i < std::min(available, slots) && !corrupt && !over; ++i) {
      result_frame frame;
      if (!results.peek(i, frame)) break;
      const auto* const first = page->result_bytes.data();
      must(frame.flags & flag_segment ||
           (frame.payload.data() >= first &&
            frame.payload.data() + frame.payload.size() <= first + ring_bytes));
      over = take(*task.get(), frame, link.get(), corrupt);
      if (chunk) must(task->chunk()->first <= task->chunk()->count);
    }
    results.release(available);
  }
  (void)results.arm();

  if (chunk) {
    const auto lost = std::make_exception_ptr(worker_lost({}));
    while (actors::has_items_left(*task.get()))
      actors::fail_items(*task.get(), in.take<std::uint16_t>() + count, lost);
    const auto progress = actors::close_chunk(*task.get());
    must(!progress.parent || progress.parent.get() == parent.get());
    read_as_the_caller<int>(*task.get());
    read_as_the_caller<std::string>(*task.get());
    if (progress.parent && progress.kind == detail::outcome_kind::error)
      (void)detail::decode_exception(parent->payload().bytes());
  } else {
    (void)detail::decode_exception(task->payload().bytes());
  }
  for (const std::uint64_t ticket : link.tickets) {
    task = {};
    const auto lent = link.get().lend(ticket, 1);
    must(lent != nullptr);  // nobody has kept it
    lent->lent = false;
  }
  return 0;
}
