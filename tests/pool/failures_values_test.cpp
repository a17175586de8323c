// SPDX-License-Identifier: BSL-1.0
// Row 25 of failures.md for items that travel together: what cannot be packed or unpacked is one
// item's error.
#include <gtest/gtest.h>

#include <algorithm>
#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using namespace std::chrono_literals;

enum class at { saving, loading, nowhere };

/// A text that cannot be packed, or not be unpacked, if it is a "2".
template <at Where>
struct picky {
  std::string text;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    constexpr bool here = Archive::is_saving::value ? Where == at::saving : Where == at::loading;
    if (here && Archive::is_saving::value && text == "2") throw std::logic_error("not this one");
    archive& text;
    if (here && Archive::is_loading::value && text == "2") throw std::logic_error("not this one");
  }
};

template <at Where>
picky<Where> make(int i) {
  return {std::to_string(i)};
}
template <at Where>
int take(const picky<Where>& one) {
  return std::stoi(one.text);
}
template <at Where>
int take_with(const picky<Where>& one, int more) {
  return std::stoi(one.text) + more;
}
template <at Where>
std::vector<picky<Where>> pickies(int count) {
  std::vector<picky<Where>> all;
  for (int i = 0; i < count; ++i) all.push_back(make<Where>(i));
  return all;
}

const std::vector<int> six{0, 1, 2, 3, 4, 5};
const std::vector<std::string> all_but_two{"0", "1", "encoding_error", "3", "4", "5"};

std::string said(int value) { return std::to_string(value); }
template <at Where>
std::string said(const picky<Where>& value) {
  return value.text;
}

template <class F>
std::string outcome_of(F get) {
  try {
    return said(get());
  } catch (const carom::encoding_error&) {
    return "encoding_error";
  } catch (const carom::worker_lost&) {
    return "worker_lost";
  } catch (const carom::time_limit_exceeded&) {
    return "time_limit_exceeded";
  } catch (const std::exception& e) {
    return e.what();
  }
}

template <class R>
std::vector<std::string> told_by(const std::vector<carom::result<R>>& outcomes) {
  std::vector<std::string> all;
  for (const auto& one : outcomes) all.push_back(outcome_of([&] { return one.value(); }));
  return all;
}

template <class R>
std::vector<std::string> told_by(carom::imap_range<R> outcomes) {
  std::vector<std::string> all;
  for (bool more = true; more && all.size() < 100;) {
    const std::string one = outcome_of([&] {
      auto value = outcomes.next(60s);
      if (!value) throw std::runtime_error("end");
      return *value;
    });
    more = one != "end";
    if (more) all.push_back(one);
  }
  return all;
}

std::vector<std::string> sorted(std::vector<std::string> texts) {
  std::ranges::sort(texts);
  return texts;
}

template <at Where>
void results_fail_alone() {
  carom::pool pool{{.processes = 2}};
  for (const std::size_t chunk : {1, 2, 3, 6}) {
    SCOPED_TRACE(chunk);
    EXPECT_EQ(told_by(pool.try_map(make<Where>, six, chunk)), all_but_two);
    EXPECT_EQ(told_by(pool.imap(make<Where>, six, chunk)), all_but_two);
    EXPECT_EQ(sorted(told_by(pool.imap_unordered(make<Where>, six, chunk))), sorted(all_but_two));
    EXPECT_THROW(pool.map(make<Where>, six, chunk), carom::encoding_error);
  }
  EXPECT_EQ(pool.map(make<Where>, std::vector{1, 3}, 2).back().text, "3");
}

/// Dies, or stays, as it is unpacked.
struct deadly {
  int how = 0;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& how;
    if (!Archive::is_loading::value) return;
    if (how == 1) std::raise(SIGKILL);
    while (how == 2) carom::this_task::sleep_for(std::chrono::hours(1));
  }
};
struct deadly_function {
  deadly state;
  int operator()(int x) const { return x; }
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& state;
  }
};
int unharmed(const deadly& one) { return one.how; }

struct share {
  std::shared_ptr<int> of;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& of;
  }
};

struct broken_on_arrival : std::runtime_error {
  using std::runtime_error::runtime_error;
  template <class Archive>
  void serialize(Archive&, unsigned) {
    if (Archive::is_loading::value) throw std::logic_error("not this one");
  }
};
CAROM_EXCEPTION(broken_on_arrival);

}  // namespace

TEST_F(Failures, 25_a_result_that_cannot_be_packed_fails_its_item_only) {
  results_fail_alone<at::saving>();
}

TEST_F(Failures, 25_a_result_that_cannot_be_unpacked_fails_its_item_only) {
  results_fail_alone<at::loading>();
}

TEST_F(Failures, 25_an_argument_that_cannot_be_unpacked_fails_its_item_only) {
  carom::pool pool{{.processes = 2}};
  const auto items = pickies<at::loading>(6);
  for (const std::size_t chunk : {1, 2, 3, 6}) {
    SCOPED_TRACE(chunk);
    EXPECT_EQ(told_by(pool.try_map(take<at::loading>, items, chunk)), all_but_two);
    EXPECT_EQ(told_by(pool.imap(take<at::loading>, items, chunk)), all_but_two);
    EXPECT_EQ(sorted(told_by(pool.imap_unordered(take<at::loading>, items, chunk))),
              sorted(all_but_two));
    EXPECT_THROW(pool.map(take<at::loading>, items, chunk), carom::encoding_error);
    std::vector<std::tuple<picky<at::loading>, int>> pairs;
    for (const auto& one : items) pairs.emplace_back(one, 10);
    EXPECT_THROW(pool.starmap(take_with<at::loading>, pairs, chunk), carom::encoding_error);
    pairs.erase(pairs.begin() + 2);
    EXPECT_EQ(pool.starmap(take_with<at::loading>, pairs, chunk),
              (std::vector{10, 11, 13, 14, 15}));
  }
}

TEST_F(Failures, 25_an_argument_that_cannot_be_packed_fails_the_call_or_its_item) {
  carom::pool pool{{.processes = 2}};
  const auto items = pickies<at::saving>(6);
  for (const std::size_t chunk : {1, 3, 6}) {
    SCOPED_TRACE(chunk);
    EXPECT_THROW(pool.map(take<at::saving>, items, chunk), carom::encoding_error) << "at the call";
    EXPECT_EQ(told_by(pool.imap(take<at::saving>, items, chunk)), all_but_two);
    EXPECT_EQ(sorted(told_by(pool.imap_unordered(take<at::saving>, items, chunk))),
              sorted(all_but_two));
  }
}

TEST_F(Failures, 25_an_error_that_cannot_be_unpacked_is_its_items_only) {
  carom::pool pool{{.processes = 1}};
  const auto outcomes = pool.try_map(
      [](int i) {
        if (i == 2) throw broken_on_arrival("broken");
        return i;
      },
      six, 6);
  ASSERT_EQ(outcomes.size(), 6u);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(outcomes[static_cast<std::size_t>(i)].has_value(), i != 2);
  EXPECT_THROW(outcomes[2].value(), carom::error) << "whatever of it could be saved";
}

TEST_F(Failures, 25_an_argument_that_kills_as_it_is_unpacked_is_its_items_death) {
  carom::pool pool{{.processes = 1}};
  // With a limit, each item that has ended is known to have.
  const carom::task_options timed{.time_limit = 1h};
  EXPECT_EQ(told_by(pool.try_map(timed, unharmed, std::vector<deadly>{{0}, {0}, {1}, {0}, {0}}, 5)),
            (std::vector<std::string>{"0", "0", "worker_lost", "0", "0"}));
  EXPECT_EQ(told_by(pool.try_map(timed, unharmed, std::vector<deadly>{{1}, {0}, {1}}, 3)),
            (std::vector<std::string>{"worker_lost", "0", "worker_lost"}));
}

TEST_F(Failures, 25_an_argument_that_hangs_as_it_is_unpacked_passes_its_items_time_limit) {
  carom::pool pool{{.processes = 1}};
  const carom::task_options timed{.time_limit = 1s};
  EXPECT_EQ(told_by(pool.try_map(timed, unharmed, std::vector<deadly>{{0}, {0}, {2}, {0}, {0}}, 5)),
            (std::vector<std::string>{"0", "0", "time_limit_exceeded", "0", "0"}));
}

TEST_F(Failures, 25_a_function_that_hangs_as_it_is_unpacked_passes_its_items_time_limits) {
  carom::pool pool{{.processes = 1}};
  const carom::task_options timed{.time_limit = 200ms}, in_time{.time_limit = 1h};
  EXPECT_EQ(told_by(pool.try_map(timed, deadly_function{{2}}, std::vector{1, 2}, 2)),
            (std::vector<std::string>{"time_limit_exceeded", "time_limit_exceeded"}));
  EXPECT_EQ(told_by(pool.try_map(in_time, deadly_function{{0}}, std::vector{1, 2}, 2)),
            (std::vector<std::string>{"1", "2"}));
}

TEST_F(Failures, 25_arguments_of_an_item_share_their_objects) {
  carom::pool pool{{.processes = 1}};
  const auto number = std::make_shared<int>(7);
  std::vector<std::tuple<share, share>> items(5, {share{number}, share{number}});
  const auto same = pool.starmap(
      +[](const share& a, const share& b) { return a.of == b.of && *a.of == 7; }, items, 5);
  EXPECT_EQ(same, std::vector<bool>(5, true));
}
