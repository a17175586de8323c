#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""usage: pool_peer.py billiard|multiprocessing WORKERS

Measures a Python pool for carom-bench. Greets with "ok", then answers lines on standard input until they end:
"WORD NUMBER..." by "ok NUMBER..." or "error TEXT". Times are in microseconds, rates in items or 10^9 bytes a second.
"""
import importlib
import logging
import os
import select
import signal
import sys
import threading
import time

clock = time.perf_counter
PAYLOAD = 8 << 20

# Pipes that workers inherit: each says that it has begun, then waits for its release.
begun_read, begun_write = os.pipe()
release_read, release_write = os.pipe()


def square(x):
    return x * x


def noop():
    pass


def length(b):
    return len(b)


def echo(b):
    return b


def meet():
    os.write(begun_write, b"x")
    os.read(release_read, 1)


def spin():
    os.write(begun_write, os.getpid().to_bytes(4, "little"))
    while True:
        pass


def put_all(queue, count):
    for i in range(count):
        queue.put(i)


def echo_numbers(far):
    while True:
        far.send(far.recv())


def add_up(far):
    count = far.recv()
    far.send(sum(far.recv() for _ in range(count)))


def send_payloads(far):
    data = b"x" * PAYLOAD
    while True:
        far.send_bytes(data)


def read_all(fd, count, seconds):
    data = b""
    while len(data) < count:
        if not select.select([fd], [], [], seconds)[0]:
            raise RuntimeError("tasks did not begin in time")
        data += os.read(fd, count - len(data))
    return data


def end(pool):
    """Terminates a pool. billiard's terminate() waits for ever for a worker that missed its SIGTERM."""
    workers = [os.pidfd_open(worker.pid) for worker in pool._pool if worker.is_alive()]
    ending = threading.Thread(target=pool.terminate)
    ending.start()
    ending.join(1)
    for worker in workers:
        try:
            signal.pidfd_send_signal(worker, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(worker)
    ending.join()


def produce(queue, count):
    for i in range(count):
        queue.put(i)


def consume(queue, count, done):
    for _ in range(count):
        queue.get()
    done.send_bytes(b"x")


class Peer:
    def __init__(self, module, workers):
        self.module, self.workers, self.pool = module, workers, None

    def warm_pool(self):
        if self.pool is None:
            self.pool = self.module.Pool(self.workers)
            for i in range(200):
                self.pool.apply(square, (i,))
        return self.pool

    def close(self):
        """Before another pool is made, too: its workers are not to be forked while a thread of this one holds a lock."""
        if self.pool is not None:
            end(self.pool)
            self.pool = None


    def apply_rtt(self, count):
        pool = self.warm_pool()
        start = clock()
        for i in range(count):
            pool.apply(square, (i,))
        return (clock() - start) / count * 1e6

    def apply_async(self, count):
        pool = self.warm_pool()
        start = clock()
        results = [pool.apply_async(square, (i,)) for i in range(count)]
        for result in results:
            result.get()
        return count / (clock() - start)

    def map(self, count, chunk=None):
        pool = self.warm_pool()
        start = clock()
        pool.map(square, range(count), chunk)
        return count / (clock() - start)

    def map_chunk1(self, count):
        return self.map(count, 1)

    def payload(self, function, count):
        pool, data = self.warm_pool(), b"x" * PAYLOAD
        start = clock()
        for _ in range(count):
            pool.apply(function, (data,))
        return count * PAYLOAD / (clock() - start) / 1e9

    def argument(self, count):
        return self.payload(length, count)

    def echo(self, count):
        return self.payload(echo, count)

    def queue(self, count):
        """Items a second from one process to another."""
        self.close()
        queue = self.module.Queue()
        read, write = self.module.Pipe(False)
        processes = [self.module.Process(target=consume, args=(queue, count, write)),
                     self.module.Process(target=produce, args=(queue, count))]
        start = clock()
        for process in processes:
            process.start()
        read.recv_bytes()
        passed = clock() - start
        for process in processes:
            process.join()
        return count / passed

    def pool_start(self, workers):
        """A new pool and its first result."""
        self.close()
        start = clock()
        pool = self.module.Pool(workers)
        pool.apply(noop)
        passed = clock() - start
        end(pool)
        return passed * 1e6

    def pool_start_noops(self, workers):
        """A new pool and the results of as many tasks as it has workers."""
        self.close()
        start = clock()
        pool = self.module.Pool(workers)
        results = [pool.apply_async(noop) for _ in range(workers)]
        for result in results:
            result.get()
        passed = clock() - start
        end(pool)
        return passed * 1e6

    def process_start(self, count):
        """A process that does nothing, started and joined."""
        self.close()
        start = clock()
        for _ in range(count):
            process = self.module.Process(target=noop)
            process.start()
            process.join()
        return (clock() - start) / count * 1e6

    def meet_all(self, pool, workers):
        results = [pool.apply_async(meet) for _ in range(workers)]
        read_all(begun_read, workers, 60)
        os.write(release_write, b"x" * workers)
        for result in results:
            result.get()

    def pool_start_each(self, workers):
        """A new pool and a result of each of its workers."""
        self.close()
        start = clock()
        pool = self.module.Pool(workers)
        self.meet_all(pool, workers)
        passed = clock() - start
        end(pool)
        return passed * 1e6

    def worker_lost(self, kills):
        """From SIGKILL of a busy worker to the error, for several workers at once."""
        self.close()
        pool = self.module.Pool(kills)
        results = [pool.apply_async(spin) for _ in range(kills)]
        pids = read_all(begun_read, 4 * kills, 60)
        start = clock()
        for at in range(0, len(pids), 4):
            os.kill(int.from_bytes(pids[at:at + 4], "little"), signal.SIGKILL)
        times = []
        for result in results:
            try:
                result.get(timeout=60)
            except Exception:
                pass
            times.append((clock() - start) * 1e6)
        end(pool)
        return times

    def stream(self, queue, count):
        """Items a second from a process of its own to this one."""
        self.close()
        producer = self.module.Process(target=put_all, args=(queue, count))
        producer.start()
        queue.get()
        start = clock()
        for _ in range(count - 1):
            queue.get()
        passed = clock() - start
        producer.join()
        return count / passed

    def simple_queue(self, count):
        return self.stream(self.module.SimpleQueue(), count)

    def feeder_queue(self, count):
        return self.stream(self.module.Queue(), count)

    def with_other_end(self, body, measure):
        """A pipe whose other end a process of its own has, which runs body."""
        self.close()
        near, far = self.module.Pipe()
        process = self.module.Process(target=body, args=(far,))
        process.start()
        far.close()
        try:
            return measure(near)
        finally:
            near.close()
            process.terminate()
            process.join()

    def connection_rtt(self, count):
        def measure(near):
            for i in range(count + 100):
                if i == 100:
                    start = clock()
                near.send(i)
                near.recv()
            return (clock() - start) / count * 1e6
        return self.with_other_end(echo_numbers, measure)

    def connection_messages(self, count):
        def measure(near):
            near.send(count)
            start = clock()
            for _ in range(count):
                near.send(1)
            near.recv()
            return count / (clock() - start)
        return self.with_other_end(add_up, measure)

    def connection_bytes(self, count):
        def measure(near):
            buffer = bytearray(PAYLOAD)
            near.recv_bytes_into(buffer)
            start = clock()
            for _ in range(count):
                near.recv_bytes()
            return count * PAYLOAD / (clock() - start) / 1e9
        return self.with_other_end(send_payloads, measure)

    def memory(self, workers):
        """Proportional set size of an idle worker that has run a task, in bytes."""
        self.close()
        pool = self.module.Pool(workers)
        self.meet_all(pool, workers)
        pids = [worker.pid for worker in pool._pool]
        size = sum(pss(pid) for pid in pids) / workers
        end(pool)
        return size

    def lock_once(self, made, count):
        """Acquires and releases what nobody else wants."""
        acquire, release = made.acquire, made.release
        start = clock()
        for _ in range(count):
            acquire()
            release()
        return (clock() - start) / count * 1e6

    def lock(self, count):
        return self.lock_once(self.module.Lock(), count)

    def rlock(self, count):
        return self.lock_once(self.module.RLock(), count)

    def semaphore(self, count):
        return self.lock_once(self.module.Semaphore(1), count)

    def idle(self, milliseconds):
        """Context switches per second of this process and its idle workers."""
        pool = self.warm_pool()
        pids = [os.getpid()] + [worker.pid for worker in pool._pool]
        before = sum(map(switches, pids))
        time.sleep(milliseconds / 1e3)
        # The sleep itself is one wake-up that an idle pool would not have.
        return max(0, sum(map(switches, pids)) - before - 1) / (milliseconds / 1e3)


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def switches(pid):
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status") as lines:
            total += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return total


def main():
    try:
        module = importlib.import_module(sys.argv[1])
    except ImportError as error:
        print("error", error, flush=True)
        return
    logging.disable(logging.CRITICAL)  # workers that are killed are no news here
    peer = Peer(module, int(sys.argv[2]))
    print("ok", flush=True)
    try:
        # Not `for line in sys.stdin`: children forked meanwhile would share its read-ahead.
        while line := sys.stdin.readline():
            word, *numbers = line.split()
            try:
                value = getattr(peer, word)(*(int(number) for number in numbers))
                print("ok", *(value if isinstance(value, list) else [value]), flush=True)
            except Exception as error:
                print("error", type(error).__name__, error, flush=True)
    finally:
        peer.close()


if __name__ == "__main__":
    main()
