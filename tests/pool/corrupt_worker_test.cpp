// SPDX-License-Identifier: BSL-1.0
// Workers that say what is not so, in the words of those that do not.
#include <gtest/gtest.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "runtime/worker_identity.hpp"
#include "runtime/worker_page.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace runtime = carom::runtime;
using namespace std::chrono_literals;

/// Publishes a result behind the worker's back, and rings no bell.
void publish(runtime::worker_page& page, runtime::result_slot said) {
  const auto tail = page.header.result_tail.load();
  page.results[tail % runtime::ring_slots] = said;
  page.header.result_tail.store(tail + 1);
}

/// The last item of its chunk says that the chunk is done, and hangs.
int call_the_chunk_done(int x) {
  if (x != 2) return x;
  auto& page = *runtime::identity().page;
  const auto& run = page.open;
  const std::size_t one = run.length / run.count.load();
  const std::size_t size = 3 * one, at = runtime::ring_bytes - size;
  std::byte* const bytes = page.result_bytes.data() + at;
  std::memcpy(bytes, run.bytes.data(), 2 * one);
  std::memcpy(bytes + 2 * one, run.bytes.data() + one, one);
  publish(page, {.position = run.position,
                 .payload = at,
                 .length = size,
                 .kind = static_cast<std::uint32_t>(runtime::result_kind::chunk_done),
                 .flags = 0,
                 .first = run.first,
                 .count = 3});
  for (;;) ::pause();
}

}  // namespace

TEST_F(Failures, 25_chunk_that_its_worker_has_called_done_ends_once) {
  carom::pool pool{{.processes = 2, .claim_deadline = 200ms}};
  const std::vector<int> items{0, 1, 2};
  for (int round = 0; round < 2; ++round) {
    auto results = pool.map_async(carom::task_options{.time_limit = 100ms}, call_the_chunk_done,
                                  items, items.size());
    EXPECT_EQ(results.get(20s), (std::vector<int>{0, 1, 1})) << "it was believed";
    EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  }
}
