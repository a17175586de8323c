// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <pthread.h>
#include <signal.h>

namespace carom::runtime {

/// While it lives a thread that is made takes no signal: those are the business of the host's own
/// threads. But what a thread does to itself, a crash in a callback for one, stays the concern of
/// the host's handlers.
class signals_held_back {
 public:
  signals_held_back() {
    sigset_t all;
    ::sigfillset(&all);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) ::sigdelset(&all, own);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~signals_held_back() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  signals_held_back(const signals_held_back&) = delete;
  signals_held_back& operator=(const signals_held_back&) = delete;

 private:
  sigset_t before_;
};

}  // namespace carom::runtime
