// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <caf/all.hpp>
#include <carom/detail/caf.hpp>
#include <carom/pool_info.hpp>
#include <carom/pool_options.hpp>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "actors/actor_runtime.hpp"
#include "actors/autoscaler.hpp"
#include "actors/callbacks.hpp"
#include "actors/outcomes.hpp"
#include "actors/pool_handle.hpp"
#include "actors/seat.hpp"
#include "actors/supervisor_core.hpp"
#include "actors/time_limits.hpp"
#include "runtime/host_runtime.hpp"

namespace carom::actors {

using drain_atom = caf::atom_constant<caf::atom("drain")>;
using close_atom = caf::atom_constant<caf::atom("close")>;
using terminate_atom = caf::atom_constant<caf::atom("terminate")>;
using finish_atom = caf::atom_constant<caf::atom("finish")>;

class supervisor;
/// What a thread of this process asks. It waits for the answer, or for the end of the message.
struct question {
  struct asked {
    const std::function<void(supervisor&)>& by;
    std::promise<void> answer;
  };
  std::shared_ptr<asked> what;
};

/// Most workers that a pool may have.
inline constexpr std::uint32_t most_processes = 4096;

/// The pool's supervisor: carries what happens to `supervisor_core` and carries out what it
/// decides. Runs on the loop's thread only, as an actor and as the loop's poller.
class supervisor final : public caf::event_based_actor,
                         public loop_resident,
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

  // What applications ask, on the loop's thread; supervisor_requests.cpp.
  pid_t accepted_by(detail::task_node& task);
  /// Ends the task if it has not begun; says whether it did.
  bool cancel(detail::task_node& task);
  /// Ends the task now, killing its worker with `signal` if it runs; false if it has ended.
  bool terminate_task(detail::task_node& task, int signal);
  /// The same for whatever the worker runs. Throws process_error if `pid` is no worker's.
  bool terminate_worker(pid_t pid, int signal);
  void grow(int by);
  void shrink(int by, bool drain);
  void restart_workers();
  std::vector<worker_info> workers();
  pool_metrics metrics();
  bool did_start_ok() const noexcept { return !start_failed_; }
  bool over() const noexcept { return finished_; }

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
  /// Gives workers what waits. Says when it did; 0 if nothing waited.
  std::int64_t place();
  void drop_withdrawn();
  void balance(std::int64_t now);
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
  void contact_lost(std::uint64_t id) override;

  // workers
  void fill_seats();
  void start_worker(index place);
  void not_started(std::uint64_t id, int error, const std::string& why);
  std::uint32_t drain(seat& from);
  bool take_result(seat& from, const runtime::result_frame& frame);
  void announce_up(seat& up);
  void tell_started(seat& where);
  void start_told(seat& where, detail::task_node& task);
  void bury(seat& dead);
  void sort_losses(seat& dead, obituary& of);
  void publish_obituary(std::uint64_t id, const runtime::exit_info& info);
  void settle_loss(const obituary::loss& loss, const std::exception_ptr& lost);
  void publish_late_obituaries();
  void count_death(detail::task_node& task, std::uint64_t last_item);
  void forget_deaths(const detail::task_node& chunk, std::uint64_t up_to);
  void signal_seats(int signal);
  seat* seat_of(std::uint64_t id);

  // what the clock brings; supervisor_clock.cpp, supervisor_limits.cpp and supervisor_memory.cpp
  void due(std::int64_t at_ns);
  void look_by(seat& at, std::int64_t at_ns);
  void look_around();
  void look_at_seats(std::int64_t now);
  void look(seat& at, std::int64_t now);
  std::int64_t look_at_start(seat& at, std::int64_t now);
  std::int64_t look_at_tasks(seat& at, std::int64_t now);
  std::int64_t look_at_running(seat& at, std::uint64_t position, detail::task_node& task,
                               std::int64_t started_ns, std::int64_t now);
  std::int64_t look_at_signals(seat& at, std::int64_t now);
  void pass_soft_limit(seat& at, std::uint64_t position, std::uint64_t item,
                       detail::task_node& task, std::int64_t now);
  bool pass_hard_limit(seat& at, std::uint64_t position, std::optional<std::uint64_t> item,
                       detail::task_node& task, std::int64_t started_ns, std::int64_t now);
  /// A chunk that runs no more: the item ends in `error`, those before it as they did, and those
  /// after it go to another worker.
  void end_at_item(seat& at, std::uint64_t position, std::uint64_t item, detail::task_node& task,
                   const std::exception_ptr& error);
  void begin_soft_limit(seat& at, std::int64_t limit_ns, const std::string& name);
  /// Says whether there is anybody to be told.
  bool tell_timeout(seat& at, detail::task_node& task, bool soft, std::int64_t limit_ns);
  time_limits limits_of(const detail::task_node& task) const;
  /// Takes the running task at `position` away from its worker, which is to die: the task ends in
  /// `error`, of a chunk at least the item that runs. False if it has ended by itself.
  bool stop_running(seat& at, std::uint64_t position, detail::task_node& task, kill_reason why,
                    const std::exception_ptr& error, bool whole, int signal);
  void take_unbegun(seat& from);
  void kill(seat& at, kill_reason why, const detail::task_node* task, int signal);
  void ask_before_kill(std::uint64_t worker, const kill_event& event);
  void signal_after(seat& at, std::chrono::nanoseconds wait);
  void rule_hung(seat& at);
  std::uint64_t memory_of(seat& of);
  void weigh_workers(std::int64_t now);
  bool stop_for_memory(seat& at, std::uint64_t limit, std::uint64_t found);
  void expire_tasks(std::int64_t now);
  void begin_delayed(std::int64_t now);
  void set_target(std::uint32_t processes);
  void scale(std::int64_t now);
  /// Says whether anybody was told to leave.
  bool let_go_of_spare();
  void go_on();
  void ask_to_leave(seat& at);

  // tasks
  void take_in(detail::task_node& task, std::int64_t now);
  void enqueue_task(detail::task_node& task, bool first);
  void withdraw(detail::task_node& task, const std::exception_ptr& error);
  bool cancel_all(const std::vector<detail::task_ref>& chunks, const std::exception_ptr& error);
  bool take_back(detail::task_node& task, const std::exception_ptr& error);
  bool stop_begun(detail::task_node& task, int signal);
  bool take_from_worker(detail::task_node& task);
  /// Ends a task that its worker is running, or was when it died; false if it has ended.
  bool stop_at_worker(seat& at, detail::task_node& task, int signal);
  bool stop_lost(detail::task_node& task, int signal);
  const retry_options& retry_rule(const detail::task_node& task) const;
  bool retry(detail::task_node& task);
  void settle(detail::task_node& task, detail::outcome_kind kind);
  void settle_error(detail::task_node& task, const std::exception_ptr& error);

  // What the application is told; supervisor_news.cpp.
  void tell(std::function<void()> call);
  /// Calls what needs no answer, or has it called where the application wants it.
  template <class F>
  void hand_out(F call) {
    if (options_.executor)
      call_logged(options_.executor, std::function<void()>(std::move(call)));
    else
      call();
  }
  void reveal(detail::task_node& task, detail::outcome_kind kind);
  bool run_callbacks();
  caf::result<caf::message> answer(const packed_call& call);
  void reply(caf::response_promise& to, const detail::task_node& task, detail::caf_reply make);

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
  const int cpus_ = cpu_count();
  supervisor_core core_;
  std::vector<std::unique_ptr<seat>> seats_;
  std::unordered_map<std::uint64_t, index> places_;  // by worker id
  std::vector<index> active_;                        // seats whose results are polled
  std::vector<index> touched_;                       // seats with frames not yet shown
  /// What the application has not been told yet, in order: a call, or that a task has ended. Told
  /// when nothing else is going on, because it may call back.
  struct news {
    std::function<void()> call;
    detail::task_node* task = nullptr;                       // with the pool's reference
    detail::outcome_kind kind = detail::outcome_kind::none;  // none: all but the continuations know
  };
  std::deque<news> news_;
  std::size_t calls_to_make_ = 0;  // among the news, with the one under way
  std::unordered_map<std::uint64_t, obituary> dying_;
  loop_unit* unit_;
  std::unique_ptr<runtime::loop::timer> balance_timer_;
  std::unique_ptr<runtime::loop::timer> retry_timer_;
  std::unique_ptr<runtime::loop::timer> shutdown_timer_;
  std::unique_ptr<runtime::loop::timer> obituary_timer_;
  call_types call_types_;
  caf::error exit_reason_;
  task_error task_error_;  // what tasks end with once the pool has ended by force
  time_limits pool_limits_;
  std::int64_t claim_deadline_ns_ = never_ns;
  std::unique_ptr<runtime::loop::timer> watch_timer_;
  std::int64_t watch_armed_ns_ = never_ns;
  std::int64_t weigh_at_ns_ = never_ns;
  std::int64_t scale_at_ns_ = never_ns;
  std::optional<autoscaler> autoscaler_;
  std::map<std::pair<std::int64_t, std::uint64_t>, detail::task_node*> deadlines_;  // time, id
  std::multimap<std::int64_t, detail::task_node*> delayed_;  // to be tried again
  /// Workers that died of an item, by its chunk: only where it may be tried again.
  std::map<std::pair<const detail::task_node*, std::uint64_t>, std::uint16_t> item_deaths_;
  std::uint64_t withdrawn_ = 0;  // that still stand in the queue
  pool_metrics counts_;
  std::uint64_t settled_ = 0;
  std::uint64_t settled_told_ = 0;
  bool start_failed_ = false;
  std::uint64_t drops_seen_ = 0;
  bool balance_armed_ = false;
  bool giving_up_ = false;
  bool finished_ = false;
};

}  // namespace carom::actors

// It never leaves this process: nobody elsewhere can name it.
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(carom::actors::question)
