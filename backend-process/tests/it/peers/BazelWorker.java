import com.google.devtools.build.lib.worker.ProtoWorkerMessageProcessor;
import com.google.devtools.build.lib.worker.WorkRequestHandler;
import java.io.PrintWriter;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** A worker around Bazel's own handler of requests, which reads, starts, cancels and answers them. */
class BazelWorker {
  static final AtomicInteger interrupted = new AtomicInteger();
  static final CountDownLatch both = new CountDownLatch(2);

  public static void main(String[] args) throws Exception {
    var messages = new ProtoWorkerMessageProcessor(System.in, System.out);
    var builder =
        new WorkRequestHandler.WorkRequestHandlerBuilder(BazelWorker::work, System.err, messages);
    builder.setCancelCallback((id, thread) -> thread.interrupt()).build().processRequests();
  }

  static int work(List<String> arguments, PrintWriter out) {
    try {
      switch (arguments.get(0)) {
        case "say" -> out.print(String.join(" ", arguments));
        case "fail" -> throw new IllegalStateException("told to fail");
        case "interrupted" -> out.print(interrupted.get());
        // Ends only if another one of these runs at the same time.
        case "meet" -> {
          both.countDown();
          out.print(both.await(20, TimeUnit.SECONDS) ? "met" : "alone");
        }
        // Until it is cancelled.
        case "hang" -> Thread.sleep(1_000_000);
      }
      return 0;
    } catch (InterruptedException e) {
      interrupted.incrementAndGet();
      return 1;
    }
  }
}
