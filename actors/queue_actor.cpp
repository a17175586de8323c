// SPDX-License-Identifier: BSL-1.0
#include <fcntl.h>

#include <caf/all.hpp>
#include <carom/actor.hpp>
#include <carom/errors.hpp>
#include <map>
#include <memory>
#include <utility>

#include "actors/queue_server.hpp"
#include "runtime/queue_handle.hpp"
#include "runtime/segment.hpp"

// A queue's face to CAF: an ordinary actor of the application's system, which asks the queue on its
// loop and is told by messages.
namespace carom::actors {
namespace {

using runtime::queue_item;
using came_atom = caf::atom_constant<caf::atom("came")>;
using went_atom = caf::atom_constant<caf::atom("went")>;
using late_atom = caf::atom_constant<caf::atom("late")>;
using taken_back_atom = caf::atom_constant<caf::atom("takenback")>;

/// An item on its way from the loop to the actor. If nobody takes it, the actor gone for one, it
/// goes back to the queue.
class carried {
 public:
  explicit carried(std::shared_ptr<queue_server> from) : from_(std::move(from)) {}
  carried(const carried&) = delete;
  carried& operator=(const carried&) = delete;
  ~carried() {
    if (taken) return;
    from_->events().post([from = from_, back = std::make_shared<queue_item>(std::move(item))] {
      from->give_back(std::move(*back));
    });
  }

  queue_item item;
  bool taken = false;

 private:
  std::shared_ptr<queue_server> from_;
};
struct carried_item {
  std::shared_ptr<carried> what;
};

queue_item to_item(const detail::blob& packed) {
  queue_item item;
  if (packed.has_descriptors()) item.descriptors = packed.find_descriptors()->duplicate();
  if (packed.size() > runtime::largest_inline) {
    item.large = true;
    item.memory = runtime::copy_out(packed.bytes());
    item.length = packed.size();
  } else {
    item.bytes.assign(packed.bytes());
  }
  return item;
}

detail::queue_received to_received(queue_item& item) {
  detail::queue_received received;
  received.descriptors = std::move(item.descriptors);
  if (item.memory) {
    auto memory = std::make_shared<runtime::mapping>(item.memory.get(), item.length,
                                                     runtime::mapping::access::read);
    received.large = {memory->data(), item.length};
    received.hold = std::move(memory);
  } else {
    received.local = std::move(item.bytes);
  }
  return received;
}

class queue_face final : public caf::event_based_actor {
 public:
  queue_face(caf::actor_config& config, std::shared_ptr<detail::queue_handle> handle,
             detail::caf_item_reply make)
      : event_based_actor(config),
        handle_(std::move(handle)),
        server_(std::static_pointer_cast<queue_server>(handle_->here())),
        make_(make) {}

  const char* name() const override { return "carom.queue"; }

  /// What has been asked for and has not come is asked for no more.
  void on_exit() override {
    for (const auto& known : pending_)
      server_->events().post(
          [server = server_, at_server = known.second.at_server] { server->withdraw(*at_server); });
    pending_.clear();
  }

  caf::behavior make_behavior() override {
    set_down_handler([this](const caf::down_msg& down) { let_go(down.source); });
    return {
        [this](const queue_get& request) { return get(request); },
        [this](const queue_put& request) { return put(request); },
        [this](came_atom, std::uint64_t ticket, carried_item& that) { came(ticket, *that.what); },
        [this](went_atom, std::uint64_t ticket) { settle(ticket, caf::message{}); },
        [this](late_atom, std::uint64_t ticket) { take_back(ticket); },
        [this](taken_back_atom, std::uint64_t ticket) {
          const auto at = pending_.find(ticket);
          if (at != pending_.end()) refuse(ticket, at->second.is_put);
        },
    };
  }

 private:
  /// What the loop knows a request by; the loop's thread's.
  using server_ticket = std::shared_ptr<std::uint64_t>;

  struct pending {
    caf::response_promise promise;
    caf::actor_addr from;
    server_ticket at_server;
    bool is_put;
  };

  caf::result<caf::message> get(const queue_get& request) {
    const auto [ticket, at_server] = open(false, request.timeout);
    server_->events().post(
        [server = server_, self = caf::actor(this), ticket = ticket, at_server = at_server] {
          *at_server = server->get([self, ticket, server](queue_item& item) {
            auto moved = std::make_shared<carried>(server);
            // The descriptor of large items is accounted for where it was: a duplicate goes.
            moved->item.bytes.assign(item.bytes.bytes());
            moved->item.descriptors = std::move(item.descriptors);
            moved->item.large = item.large;
            moved->item.length = item.length;
            if (item.memory) {
              moved->item.memory.reset(::fcntl(item.memory.get(), F_DUPFD_CLOEXEC, 3));
              // Without a free descriptor here its bytes go.
              if (!moved->item.memory) {
                const runtime::mapping large(item.memory.get(), item.length,
                                             runtime::mapping::access::read);
                moved->item.bytes.assign({large.data(), item.length});
              }
            }
            caf::anon_send(self, came_atom::value, ticket, carried_item{std::move(moved)});
          });
        });
    return caf::delegated<caf::message>{};
  }

  caf::result<caf::message> put(const queue_put& request) {
    std::shared_ptr<queue_item> item;
    try {
      item = std::make_shared<queue_item>(to_item(*request.item));
    } catch (...) {
      return make_actor_error(std::current_exception());
    }
    const auto [ticket, at_server] = open(true, request.timeout);
    server_->events().post(
        [server = server_, self = caf::actor(this), ticket = ticket, at_server = at_server, item] {
          *at_server = server->put(
              std::move(*item), [self, ticket] { caf::anon_send(self, went_atom::value, ticket); });
        });
    return caf::delegated<caf::message>{};
  }

  std::pair<std::uint64_t, server_ticket> open(bool is_put,
                                               std::optional<std::chrono::nanoseconds> timeout) {
    const std::uint64_t ticket = ++last_;
    // The promise takes the sender along.
    const auto from = caf::actor_cast<caf::actor_addr>(current_sender());
    if (from) monitor(from);
    pending one{make_response_promise(), from, std::make_shared<std::uint64_t>(0), is_put};
    auto at_server = one.at_server;
    pending_.emplace(ticket, std::move(one));
    if (timeout) delayed_anon_send(caf::actor(this), *timeout, late_atom::value, ticket);
    return {ticket, at_server};
  }

  void came(std::uint64_t ticket, carried& what) {
    if (!pending_.contains(ticket)) return;  // who asked went down in the same moment
    what.taken = true;
    try {
      const auto received = to_received(what.item);
      settle(ticket, make_(received));
    } catch (...) {
      settle(ticket, make_actor_error(std::current_exception()));
    }
  }

  template <class Answer>
  void settle(std::uint64_t ticket, Answer answer) {
    const auto at = pending_.find(ticket);
    if (at == pending_.end()) return;
    at->second.promise.deliver(std::move(answer));
    if (at->second.from) demonitor(at->second.from);
    pending_.erase(at);
  }

  void refuse(std::uint64_t ticket, bool is_put) {
    settle(ticket, make_actor_error(is_put ? std::make_exception_ptr(queue_full())
                                           : std::make_exception_ptr(queue_empty())));
  }

  /// The time of a request is up, unless it has happened.
  void take_back(std::uint64_t ticket) {
    const auto at = pending_.find(ticket);
    if (at == pending_.end()) return;
    server_->events().post(
        [server = server_, self = caf::actor(this), ticket, at_server = at->second.at_server] {
          if (server->withdraw(*at_server)) caf::anon_send(self, taken_back_atom::value, ticket);
        });
  }

  /// Who asked is gone.
  void let_go(const caf::actor_addr& whose) {
    for (auto at = pending_.begin(); at != pending_.end();) {
      if (at->second.from != whose) {
        ++at;
        continue;
      }
      server_->events().post(
          [server = server_, at_server = at->second.at_server] { server->withdraw(*at_server); });
      at = pending_.erase(at);
    }
  }

  std::shared_ptr<detail::queue_handle> handle_;
  std::shared_ptr<queue_server> server_;
  detail::caf_item_reply make_;
  std::map<std::uint64_t, pending> pending_;
  std::uint64_t last_ = 0;
};

}  // namespace
}  // namespace carom::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(carom::actors::carried_item)

namespace carom::detail {

caf::actor spawn_queue_actor(caf::actor_system& system, std::shared_ptr<queue_handle> queue,
                             caf_item_reply make) {
  if (!queue->here())
    throw process_error(
        "a queue is an actor only in the process that made it: use put and get here");
  return system.spawn<actors::queue_face>(std::move(queue), make);
}

}  // namespace carom::detail
