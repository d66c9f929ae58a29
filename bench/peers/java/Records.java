import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.util.ArrayList;
import java.util.List;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.io.Text;
import org.apache.hadoop.mapreduce.InputSplit;
import org.apache.hadoop.mapreduce.JobContext;
import org.apache.hadoop.mapreduce.RecordReader;
import org.apache.hadoop.mapreduce.RecordWriter;
import org.apache.hadoop.mapreduce.TaskAttemptContext;
import org.apache.hadoop.mapreduce.lib.input.FileInputFormat;
import org.apache.hadoop.mapreduce.lib.input.FileSplit;
import org.apache.hadoop.mapreduce.lib.output.FileOutputFormat;

/** Records of the sort benchmark for Hadoop and Spark: 100 bytes, of which ten are the key, as in Hadoop's own TeraSort. */
final class Records {
  static final int RECORD = 100;
  static final int KEY = 10;
  private static final int BUFFER = 128 << 10;

  private Records() {}

  public static final class Input extends FileInputFormat<Text, Text> {
    /** Splits that end where records end. */
    @Override
    public List<InputSplit> getSplits(JobContext job) throws IOException {
      List<InputSplit> splits = new ArrayList<>();
      for (InputSplit any : super.getSplits(job)) {
        FileSplit split = (FileSplit) any;
        long start = nextRecord(split.getStart());
        long length = nextRecord(split.getStart() + split.getLength()) - start;
        if (length > 0) {
          splits.add(new FileSplit(split.getPath(), start, length, split.getLocations()));
        }
      }
      return splits;
    }

    private static long nextRecord(long offset) {
      return (offset + RECORD - 1) / RECORD * RECORD;
    }

    @Override
    public RecordReader<Text, Text> createRecordReader(InputSplit split, TaskAttemptContext context) {
      return new Reader();
    }
  }

  private static final class Reader extends RecordReader<Text, Text> {
    private final byte[] record = new byte[RECORD];
    private final Text key = new Text();
    private final Text value = new Text();
    private DataInputStream in;
    private long length;
    private long left;

    @Override
    public void initialize(InputSplit any, TaskAttemptContext context) throws IOException {
      FileSplit split = (FileSplit) any;
      Path path = split.getPath();
      FSDataInputStream file = path.getFileSystem(context.getConfiguration()).open(path);
      file.seek(split.getStart());
      in = new DataInputStream(new BufferedInputStream(file, BUFFER));
      length = split.getLength();
      left = length;
    }

    @Override
    public boolean nextKeyValue() throws IOException {
      if (left <= 0) {
        return false;
      }
      in.readFully(record);
      left -= RECORD;
      key.set(record, 0, KEY);
      value.set(record, KEY, RECORD - KEY);
      return true;
    }

    @Override
    public Text getCurrentKey() {
      return key;
    }

    @Override
    public Text getCurrentValue() {
      return value;
    }

    @Override
    public float getProgress() {
      return 1f - (float) left / length;
    }

    @Override
    public void close() throws IOException {
      in.close();
    }
  }

  public static final class Output extends FileOutputFormat<Text, Text> {
    @Override
    public RecordWriter<Text, Text> getRecordWriter(TaskAttemptContext context) throws IOException {
      Path path = getDefaultWorkFile(context, "");
      OutputStream out = new BufferedOutputStream(path.getFileSystem(context.getConfiguration()).create(path), BUFFER);
      return new RecordWriter<>() {
        @Override
        public void write(Text key, Text value) throws IOException {
          out.write(key.getBytes(), 0, key.getLength());
          out.write(value.getBytes(), 0, value.getLength());
        }

        @Override
        public void close(TaskAttemptContext ended) throws IOException {
          out.close();
        }
      };
    }
  }
}
