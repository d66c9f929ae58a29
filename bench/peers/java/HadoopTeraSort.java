import org.apache.hadoop.conf.Configured;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.io.Text;
import org.apache.hadoop.mapreduce.Job;
import org.apache.hadoop.mapreduce.Mapper;
import org.apache.hadoop.mapreduce.Reducer;
import org.apache.hadoop.mapreduce.lib.input.FileInputFormat;
import org.apache.hadoop.mapreduce.lib.output.FileOutputFormat;
import org.apache.hadoop.mapreduce.lib.partition.InputSampler;
import org.apache.hadoop.mapreduce.lib.partition.TotalOrderPartitioner;
import org.apache.hadoop.util.Tool;
import org.apache.hadoop.util.ToolRunner;

/** Terasort: partitions by ranges of keys from a sample, no other work. Arguments: -Dname=value... INPUT OUTPUT RANGES */
public final class HadoopTeraSort extends Configured implements Tool {
  private static final int SAMPLES = 100_000;
  private static final int SPLITS_SAMPLED = 10;

  @Override
  public int run(String[] arguments) throws Exception {
    Job job = Job.getInstance(getConf(), "terasort");
    job.setJarByClass(HadoopTeraSort.class);
    job.setMapperClass(Mapper.class);
    job.setReducerClass(Reducer.class);
    job.setInputFormatClass(Records.Input.class);
    job.setOutputFormatClass(Records.Output.class);
    job.setOutputKeyClass(Text.class);
    job.setOutputValueClass(Text.class);
    FileInputFormat.addInputPath(job, new Path(arguments[0]));
    FileOutputFormat.setOutputPath(job, new Path(arguments[1]));
    job.setPartitionerClass(TotalOrderPartitioner.class);
    TotalOrderPartitioner.setPartitionFile(job.getConfiguration(), new Path(arguments[2]));
    InputSampler.writePartitionFile(job, new InputSampler.SplitSampler<Text, Text>(SAMPLES, SPLITS_SAMPLED));
    return job.waitForCompletion(false) ? 0 : 1;
  }

  public static void main(String[] arguments) throws Exception {
    System.exit(ToolRunner.run(new HadoopTeraSort(), arguments));
  }
}
