// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <caf/all.hpp>
#include <carom/detail/caf.hpp>
#include <carom/pool_options.hpp>
#include <memory>
#include <unordered_map>
#include <vector>

#include "actors/actor_runtime.hpp"
#include "actors/outcomes.hpp"
#include "actors/pool_handle.hpp"
#include "actors/seat.hpp"
#include "actors/supervisor_core.hpp"
#include "runtime/host_runtime.hpp"

namespace carom::actors {

using drain_atom = caf::atom_constant<caf::atom("drain")>;
using close_atom = caf::atom_constant<caf::atom("close")>;
using terminate_atom = caf::atom_constant<caf::atom("terminate")>;
using finish_atom = caf::atom_constant<caf::atom("finish")>;
using accepted_atom = caf::atom_constant<caf::atom("accepted")>;

/// The pool's supervisor: carries what happens to `supervisor_core` and carries out what it
/// decides. Runs on the loop's thread only, as an actor and as the loop's poller.
class supervisor final : public caf::event_based_actor,
                         private runtime::loop::poller,
                         private runtime::host_runtime::worker_events,
                         public seat::owner {
 public:
  supervisor(caf::actor_config& config, std::shared_ptr<actor_runtime> runtime,
             std::shared_ptr<detail::pool_handle> handle, pool_options options);
  ~supervisor() override;

  caf::behavior make_behavior() override;
  /// Whoever sends: this actor runs on the loop.
  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit* unit) override;
  const char* name() const override { return "carom.pool"; }
  void on_exit() override;

 private:
  using index = supervisor_core::worker_index;

  // loop::poller
  bool poll() override;
  bool before_sleep() override;
  bool drain_inbox();
  bool drain_results();
  void forget_segments();

  // dispatch
  void dispatch();
  void place();
  void balance();
  void steal(const supervisor_core::theft& from);
  void retry_full_ring(index w);

  // seat::owner
  void results_waiting(seat& from) override;
  void worker_ready(seat& from) override;
  void worker_gone(seat& from) override;
  void worker_corrupt(seat& from, const char* what) override;

  // worker_events
  void forked(std::uint64_t id, pid_t pid, runtime::unique_fd pidfd) override;
  void fork_failed(std::uint64_t id, int error) override;
  void exited(std::uint64_t id, const runtime::exit_info& info) override;

  // workers
  void fill_seats();
  void start_worker(index place);
  std::uint32_t drain(seat& from);
  bool take_result(seat& from, const runtime::result_frame& frame);
  void announce_up(seat& up);
  void tell_started(seat& where);
  void start_told(seat& where, detail::task_node& task);
  void bury(seat& dead);
  void sort_losses(seat& dead, obituary& of);
  void publish_obituary(std::uint64_t id, const runtime::exit_info& info);
  void publish_late_obituaries();
  void signal_seats(int signal);
  seat* seat_of(std::uint64_t id);

  // tasks
  void settle(detail::task_node& task, detail::outcome_kind kind);
  void settle_error(detail::task_node& task, const std::exception_ptr& error);
  void run_callbacks();
  caf::result<caf::message> answer(const packed_call& call);
  void reply(caf::response_promise& to, const detail::task_node& task, detail::caf_reply make);
  pid_t accepted_by(std::uint64_t task_id);

  // the pool
  void close_pool();
  void terminate_pool();
  void fail_pool(const std::string& cause);
  using task_error = std::function<std::exception_ptr(const detail::task_node&)>;
  void end_all_tasks(task_error error);
  void advance_shutdown();
  void finish();
  void let_go();
  /// Runs `what` on the loop, behind what is going on now, if this pool is still there.
  void later(void (supervisor::*what)());

  std::shared_ptr<actor_runtime> runtime_;
  std::shared_ptr<detail::pool_handle> handle_;
  pool_options options_;
  supervisor_core core_;
  std::vector<std::unique_ptr<seat>> seats_;
  std::unordered_map<std::uint64_t, index> places_;  // by worker id
  std::vector<index> active_;                        // seats whose results are polled
  std::vector<index> touched_;                       // seats with frames not yet shown
  std::vector<detail::task_node*> called_back_;      // settled, with continuations
  std::unordered_map<std::uint64_t, obituary> dying_;
  loop_unit* unit_;
  std::unique_ptr<runtime::loop::timer> balance_timer_;
  std::unique_ptr<runtime::loop::timer> retry_timer_;
  std::unique_ptr<runtime::loop::timer> shutdown_timer_;
  std::unique_ptr<runtime::loop::timer> obituary_timer_;
  call_types call_types_;
  caf::error exit_reason_;
  task_error task_error_;  // what tasks end with once the pool has ended by force
  std::uint64_t drops_seen_ = 0;
  bool balance_armed_ = false;
  bool giving_up_ = false;
  bool finished_ = false;
};

}  // namespace carom::actors
