// SPDX-License-Identifier: BSL-1.0
// hash_tree DIR [-j N] [--chaos R] [--stats]
//
// SHA-256 of every regular file below DIR, computed by a pool of worker processes and printed
// exactly as this prints it:
//
//     find DIR -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
//
// The tree is walked in the order of the output, files travel to the workers in batches, and
// results are printed as soon as all before them are: memory does not grow with the number of
// files.
// --chaos R kills R random workers a second meanwhile. What is lost is done again, so the output is
// the same.
#include <carom/carom.hpp>

#include <fcntl.h>
#include <getopt.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <ranges>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace fs = std::filesystem;
using clock_type = std::chrono::steady_clock;

namespace {

// ---------------------------------------------------------------------------- in the workers

/// What became of one file.
struct file_hash {
  std::string hex;
  int error = 0;  ///< errno of what failed, 0 if nothing did
  std::uint64_t bytes = 0;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& hex& error& bytes;
  }
};

struct batch_hashes {
  pid_t worker = 0;
  std::vector<file_hash> files;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& worker& files;
  }
};

std::string to_hex(const unsigned char* digest, unsigned length) {
  constexpr char digits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned i = 0; i < length; ++i) {
    hex += digits[digest[i] >> 4];
    hex += digits[digest[i] & 15];
  }
  return hex;
}

file_hash hash_file(const std::string& path, EVP_MD_CTX* context) {
  static std::vector<char> buffer(128 * 1024);
  file_hash hash;
  // O_NONBLOCK: what was a file when it was listed may be a pipe by now.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) {
    hash.error = errno;
    return hash;
  }
  EVP_DigestInit_ex(context, EVP_sha256(), nullptr);
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) hash.error = errno;
    if (got <= 0) break;
    EVP_DigestUpdate(context, buffer.data(), static_cast<std::size_t>(got));
    hash.bytes += static_cast<std::uint64_t>(got);
  }
  ::close(fd);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(context, digest, &length);
  hash.hex = to_hex(digest, length);
  return hash;
}

/// The task.
batch_hashes hash_batch(const std::vector<std::string>& paths) {
  static EVP_MD_CTX* const context = EVP_MD_CTX_new();
  batch_hashes hashes{.worker = carom::this_worker::pid(), .files = {}};
  hashes.files.reserve(paths.size());
  for (const std::string& path : paths) hashes.files.push_back(hash_file(path, context));
  return hashes;
}

// ---------------------------------------------------------------------------- the tree

struct found_file {
  std::string path;
  std::uint64_t size = 0;
};

/// Regular files below a directory in the bytewise order of their paths, one at a time. Symbolic
/// links are not followed. Only the directories on the way down are held in memory.
class tree_walk {
 public:
  using error_handler = std::function<void(const std::string& path, std::error_code)>;

  tree_walk(const std::string& root, error_handler on_error) : on_error_(std::move(on_error)) {
    open(root);
  }

  std::optional<found_file> next() {
    while (!open_.empty()) {
      directory& top = open_.back();
      if (top.next == top.entries.size()) {
        open_.pop_back();
        continue;
      }
      std::string path = top.prefix + top.entries[top.next++];
      if (path.back() == '/') {
        path.pop_back();
        open(path);
        continue;
      }
      struct ::stat status {};
      if (::lstat(path.c_str(), &status) != 0) status.st_size = 0;  // the worker will say why
      return found_file{std::move(path), static_cast<std::uint64_t>(status.st_size)};
    }
    return std::nullopt;
  }

 private:
  struct directory {
    std::string prefix;
    std::vector<std::string> entries;  // names of files, names of directories with a '/'
    std::size_t next = 0;
  };

  void open(const std::string& path) {
    directory opened{path.back() == '/' ? path : path + '/', {}};
    std::error_code error;
    for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
      std::error_code unknown;
      const fs::file_status status = it->symlink_status(unknown);
      std::string name = it->path().filename().native();
      // With its '/', a directory's name sorts where the paths below it belong.
      if (fs::is_directory(status)) opened.entries.push_back(std::move(name) + '/');
      if (fs::is_regular_file(status)) opened.entries.push_back(std::move(name));
    }
    if (error) on_error_(path, error);
    std::ranges::sort(opened.entries);
    open_.push_back(std::move(opened));
  }

  error_handler on_error_;
  std::vector<directory> open_;
};

using batch = std::vector<std::string>;

/// Small files travel together until a task is worth its overhead; a large one is alone.
batch next_batch(tree_walk& walk) {
  constexpr std::uint64_t enough_bytes = 1 << 20;
  constexpr std::size_t enough_files = 128;
  batch paths;
  std::uint64_t bytes = 0;
  while (bytes < enough_bytes && paths.size() < enough_files) {
    std::optional<found_file> file = walk.next();
    if (!file) break;
    bytes += file->size;
    paths.push_back(std::move(file->path));
  }
  return paths;
}

/// One line as sha256sum prints it: a name with a backslash or an end of line in it is escaped, and
/// the line then begins with a backslash.
std::string to_line(const std::string& hex, const std::string& path) {
  std::string name;
  bool escaped = false;
  for (char c : path) {
    const char* escape = c == '\\' ? "\\\\" : c == '\n' ? "\\n" : c == '\r' ? "\\r" : nullptr;
    if (escape) {
      name += escape;
      escaped = true;
    } else {
      name += c;
    }
  }
  return (escaped ? "\\" : "") + hex + "  " + name + '\n';
}

// ---------------------------------------------------------------------------- chaos

/// Kills random workers. Holds them by pidfd, so that a number that the system has given to another
/// process meanwhile is never hit.
class chaos {
 public:
  ~chaos() {
    for (const auto& [pid, fd] : workers_) ::close(fd);
  }

  void worker_up(pid_t pid) {
    const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    if (fd < 0) return;
    std::lock_guard lock(mutex_);
    workers_[pid] = fd;
  }
  void worker_down(pid_t pid) {
    std::lock_guard lock(mutex_);
    if (const auto it = workers_.find(pid); it != workers_.end()) {
      ::close(it->second);
      workers_.erase(it);
    }
  }

  void run(double kills_per_second, std::stop_token stop) {
    std::minstd_rand random{std::random_device{}()};
    const std::chrono::duration<double> pause(1 / kills_per_second);
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      wake_.wait_for(lock, stop, pause, [] { return false; });
      if (workers_.empty() || stop.stop_requested()) continue;
      const auto victim =
          std::next(workers_.begin(), static_cast<std::ptrdiff_t>(random() % workers_.size()));
      if (::syscall(SYS_pidfd_send_signal, victim->second, SIGKILL, nullptr, 0) == 0) ++kills_;
    }
  }

  int kills() {
    std::lock_guard lock(mutex_);
    return kills_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::map<pid_t, int> workers_;  // pid, pidfd
  int kills_ = 0;
};

// ---------------------------------------------------------------------------- progress

/// A line on the terminal that says how far it is. What is to come is counted meanwhile.
class progress_bar {
 public:
  explicit progress_bar(const std::string& root) : shown_(::isatty(STDERR_FILENO) == 1) {
    if (shown_) counter_ = std::jthread([this, root](std::stop_token stop) { count(root, stop); });
  }

  void show(std::uint64_t files, std::uint64_t bytes) {
    const auto now = clock_type::now();
    if (!shown_ || now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double rate = static_cast<double>(bytes) / seconds;
    std::fprintf(stderr, "\r\033[K%llu", static_cast<unsigned long long>(files));
    if (counted_) {
      const std::uint64_t left = total_bytes_ > bytes ? total_bytes_ - bytes : 0;
      const double share =
          total_bytes_ ? 1 - static_cast<double>(left) / static_cast<double>(total_bytes_) : 1;
      constexpr int width = 30;
      const int full = static_cast<int>(share * width);
      std::fprintf(stderr, "/%llu files [%s%s] %3.0f %%, %.1f MB/s, ETA %.0f s",
                   static_cast<unsigned long long>(total_files_.load()),
                   std::string(static_cast<std::size_t>(full), '#').c_str(),
                   std::string(static_cast<std::size_t>(width - full), '.').c_str(), 100 * share,
                   rate / 1e6, rate > 0 ? static_cast<double>(left) / rate : 0);
    } else {
      std::fprintf(stderr, " files, %.1f MB/s", rate / 1e6);
    }
  }

  /// Before anything else is written to the terminal.
  void clear() {
    if (shown_) std::fputs("\r\033[K", stderr);
  }

 private:
  void count(const std::string& root, std::stop_token stop) {
    tree_walk walk(root, [](const std::string&, std::error_code) {});
    while (!stop.stop_requested()) {
      const auto file = walk.next();
      if (!file) {
        counted_ = true;
        return;
      }
      ++total_files_;
      total_bytes_ += file->size;
    }
  }

  const bool shown_;
  const clock_type::time_point start_ = clock_type::now();
  clock_type::time_point last_{};
  std::atomic<std::uint64_t> total_files_ = 0, total_bytes_ = 0;
  std::atomic<bool> counted_ = false;
  std::jthread counter_;
};

// ---------------------------------------------------------------------------- the main job

struct settings {
  std::string root;
  int processes = carom::cpu_count();
  double kills_per_second = 0;
  bool stats = false;
};

class hash_tree {
 public:
  explicit hash_tree(settings chosen) : settings_(std::move(chosen)), progress_(settings_.root) {}

  /// Says whether every file could be read.
  bool run() {
    carom::pool pool{{.processes = settings_.processes,
                      .on_process_up = [this](const auto& e) { chaos_.worker_up(e.pid); },
                      .on_process_down = [this](const auto& e) { chaos_.worker_down(e.pid); }}};
    std::jthread killer;
    if (settings_.kills_per_second > 0)
      killer = std::jthread(
          [this](std::stop_token stop) { chaos_.run(settings_.kills_per_second, stop); });

    tree_walk walk(settings_.root, [this](const std::string& path, std::error_code error) {
      report(path, error.message());
    });
    const auto under_way = static_cast<std::size_t>(16 * settings_.processes);
    for (;;) {
      while (jobs_.size() < under_way) {
        batch paths = next_batch(walk);
        if (paths.empty()) break;
        auto result = pool.apply_async(hash_batch, paths);
        jobs_.push_back({std::move(paths), std::move(result)});
      }
      if (jobs_.empty()) break;
      const batch_hashes hashes = finish_first(pool);
      print(jobs_.front().paths, hashes);
      jobs_.pop_front();
    }
    progress_.clear();
    killer = {};
    print_summary();
    return !failed_;
  }

 private:
  struct job {
    batch paths;
    carom::async_result<batch_hashes> result;
    int attempts = 1;
  };

  batch_hashes finish_first(carom::pool& pool) {
    for (;;) {
      try {
        return jobs_.front().result.get();
      } catch (const carom::worker_lost&) {
        // Without chaos a batch that loses worker after worker is to blame itself.
        if (settings_.kills_per_second == 0 && jobs_.front().attempts == 3) throw;
        resubmit_lost(pool);
      }
    }
  }

  /// All of them, not just the first: they would wait until they are the first.
  void resubmit_lost(carom::pool& pool) {
    for (job& each : jobs_) {
      if (!each.result.ready() || each.result.successful()) continue;
      each.result = pool.apply_async(hash_batch, each.paths);
      ++each.attempts;
      ++retries_;
    }
  }

  void print(const batch& paths, const batch_hashes& hashes) {
    std::string lines;
    for (std::size_t i = 0; i < paths.size(); ++i) {
      const file_hash& hash = hashes.files.at(i);
      if (hash.error) {
        report(paths[i], std::generic_category().message(hash.error));
        continue;
      }
      lines += to_line(hash.hex, paths[i]);
      ++files_;
      bytes_ += hash.bytes;
    }
    ++tasks_[hashes.worker];
    if (::isatty(STDOUT_FILENO) == 1) progress_.clear();
    if (!std::cout.write(lines.data(), static_cast<std::streamsize>(lines.size())).flush())
      throw std::system_error(errno, std::generic_category(), "cannot write the result");
    progress_.show(files_, bytes_);
  }

  void report(const std::string& path, const std::string& what) {
    progress_.clear();
    std::cerr << "hash_tree: " << path << ": " << what << '\n';
    failed_ = true;
  }

  void print_summary() {
    const double seconds = std::chrono::duration<double>(clock_type::now() - start_).count();
    const auto number = [](auto n) { return static_cast<unsigned long long>(n); };
    std::fprintf(stderr, "%llu files, %llu bytes in %.2f s, %.1f MB/s, %d workers", number(files_),
                 number(bytes_), seconds, static_cast<double>(bytes_) / 1e6 / seconds,
                 settings_.processes);
    if (settings_.kills_per_second > 0)
      std::fprintf(stderr, ", %d kills survived by %llu retries", chaos_.kills(), number(retries_));
    std::fputs("\ntasks per worker:", stderr);
    const std::size_t listed = settings_.stats ? tasks_.size() : 8;
    for (const auto& [pid, tasks] : tasks_ | std::views::take(listed))
      std::fprintf(stderr, " %d: %llu", static_cast<int>(pid), number(tasks));
    if (tasks_.size() > listed)
      std::fprintf(stderr, " and %llu more (--stats lists them)", number(tasks_.size() - listed));
    std::fputs("\n", stderr);
  }

  const settings settings_;
  const clock_type::time_point start_ = clock_type::now();
  chaos chaos_;
  progress_bar progress_;
  std::deque<job> jobs_;  // in the order of the output
  std::map<pid_t, std::uint64_t> tasks_;
  std::uint64_t files_ = 0, bytes_ = 0, retries_ = 0;
  bool failed_ = false;
};

constexpr char usage[] =
    "usage: hash_tree DIR [-j N] [--chaos R] [--stats]\n"
    "Prints the SHA-256 of every regular file below DIR, as sha256sum does.\n"
    "  -j, --jobs N   number of worker processes (one for each CPU)\n"
    "  --chaos R      kill R random workers a second; a batch must fit between two kills\n"
    "  --stats        list the tasks of every worker process\n";

[[noreturn]] void fail(const std::string& what, const std::string& why, const char* more = "") {
  std::cerr << "hash_tree: " << what << ": " << why << '\n' << more;
  std::exit(2);
}

template <class Number>
Number to_number(const char* text, const char* what, Number least, Number most) {
  char* end = nullptr;
  const double number = std::strtod(text, &end);
  if (end == text || *end || !(number >= least && number <= most))
    fail(text, std::string(what) + " wants a number from " + std::to_string(least) + " to " +
                   std::to_string(most));
  return static_cast<Number>(number);
}

settings read_arguments(int argc, char** argv) {
  const ::option options[] = {{"jobs", required_argument, nullptr, 'j'},
                              {"chaos", required_argument, nullptr, 'c'},
                              {"stats", no_argument, nullptr, 's'},
                              {"help", no_argument, nullptr, 'h'},
                              {}};
  settings chosen;
  for (int option; (option = ::getopt_long(argc, argv, "j:h", options, nullptr)) != -1;) {
    switch (option) {
      case 'j': chosen.processes = to_number(optarg, "-j", 1, 4096); break;
      case 'c': chosen.kills_per_second = to_number(optarg, "--chaos", 0.001, 10000.0); break;
      case 's': chosen.stats = true; break;
      case 'h': std::cout << usage; std::exit(0);
      default: std::cerr << usage; std::exit(2);
    }
  }
  if (argc - optind != 1) fail("arguments", "one DIR is needed", usage);
  chosen.root = argv[optind];
  struct ::stat status {};
  if (::lstat(chosen.root.c_str(), &status) != 0) fail(chosen.root, std::strerror(errno));
  if (!S_ISDIR(status.st_mode)) fail(chosen.root, "is not a directory");
  return chosen;
}

}  // namespace

int main(int argc, char** argv) {
  carom::init(argc, argv);
  try {
    return hash_tree(read_arguments(argc, argv)).run() ? 0 : 1;
  } catch (const std::exception& e) {
    std::cerr << "hash_tree: " << e.what() << '\n';
    return 1;
  }
}
