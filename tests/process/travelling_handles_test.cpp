// SPDX-License-Identifier: BSL-1.0
// Every kind of handle by every start method: as an argument, passed on, sent back, returned.
#include "tests/process/every_handle.hpp"

namespace {

using namespace carom::test;
using carom::start_method;

class each_way {
 public:
  explicit each_way(start_method method) : method_(method) {}

  void as_argument() const {
    for_each_handle([this]<class H>(const char* kind) {
      SCOPED_TRACE(kind);
      H mine = marked<H>::make();
      ASSERT_EQ(run_process(method_, leave_mark<H>, another(mine)), 0);
      EXPECT_TRUE(marked<H>::found(mine));
    });
  }
  void passed_on(int deep) const {
    for_each_handle([this, deep]<class H>(const char* kind) {
      SCOPED_TRACE(kind);
      H mine = marked<H>::make();
      ASSERT_EQ(run_process(method_, pass_on<H>, another(mine), deep, method_), 0);
      EXPECT_TRUE(marked<H>::found(mine));
    });
  }
  void sent_back() const {
    for_each_handle([this]<class H>(const char* kind) {
      SCOPED_TRACE(kind);
      H mine = marked<H>::make();
      auto [here, there] = carom::pipe();
      ASSERT_EQ(run_process(method_, send_back<H>, another(mine), std::move(there)), 0);
      H back = here.recv<H>();
      ASSERT_EQ(run_process(method_, leave_mark<H>, std::move(back)), 0);
      EXPECT_TRUE(marked<H>::found(mine));
    });
  }
  /// One pool for all: the handles are older than it, or not.
  void returned() const {
    carom::pool pool{{.processes = 1, .start_method = method_}};
    for_each_handle([&]<class H>(const char* kind) {
      SCOPED_TRACE(kind);
      H mine = marked<H>::make();
      H back = pool.apply(give_back<H>, another(mine));
      H again = pool.apply(give_back<H>, std::move(back));
      ASSERT_EQ(run_process(method_, leave_mark<H>, std::move(again)), 0);
      EXPECT_TRUE(marked<H>::found(mine));
    });
  }

 private:
  start_method method_;
};

TEST_F(Parity, Process_every_handle_as_argument_by_fork) {
  each_way(start_method::fork).as_argument();
}
TEST_F(Parity, Process_every_handle_as_argument_by_forkserver) {
  each_way(start_method::forkserver).as_argument();
}
TEST_F(Parity, Process_every_handle_as_argument_by_spawn) {
  each_way(start_method::spawn).as_argument();
}
TEST_F(Parity, Process_every_handle_passed_on_by_fork) {
  each_way(start_method::fork).passed_on(0);
  each_way(start_method::fork).passed_on(2);
}
TEST_F(Parity, Process_every_handle_passed_on_by_forkserver) {
  each_way(start_method::forkserver).passed_on(0);
  each_way(start_method::forkserver).passed_on(2);
}
TEST_F(Parity, Process_every_handle_passed_on_by_spawn) {
  each_way(start_method::spawn).passed_on(0);
  each_way(start_method::spawn).passed_on(1);
}
TEST_F(Parity, Process_every_handle_sent_back_by_fork) { each_way(start_method::fork).sent_back(); }
TEST_F(Parity, Process_every_handle_sent_back_by_forkserver) {
  each_way(start_method::forkserver).sent_back();
}
TEST_F(Parity, Process_every_handle_sent_back_by_spawn) {
  each_way(start_method::spawn).sent_back();
}
TEST_F(Parity, Pool_every_handle_returned_by_fork) { each_way(start_method::fork).returned(); }
TEST_F(Parity, Pool_every_handle_returned_by_forkserver) {
  each_way(start_method::forkserver).returned();
}
TEST_F(Parity, Pool_every_handle_returned_by_spawn) { each_way(start_method::spawn).returned(); }

}  // namespace
