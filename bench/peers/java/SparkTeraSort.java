import java.io.Serializable;
import java.util.Arrays;
import java.util.Comparator;
import org.apache.hadoop.io.Text;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaSparkContext;
import scala.Tuple2;

/** Terasort on Spark's RDDs. Arguments: INPUT OUTPUT PARTITIONS */
public final class SparkTeraSort {
  private static final class ByBytes implements Comparator<byte[]>, Serializable {
    @Override
    public int compare(byte[] a, byte[] b) {
      return Arrays.compareUnsigned(a, b);
    }
  }

  public static void main(String[] arguments) {
    int partitions = Integer.parseInt(arguments[2]);
    try (JavaSparkContext spark = new JavaSparkContext(new SparkConf().setAppName("terasort"))) {
      spark
          .binaryRecords(arguments[0], Records.RECORD)
          .mapToPair(SparkTeraSort::keyAndValue)
          .sortByKey(new ByBytes(), true, partitions)
          .mapToPair(pair -> new Tuple2<>(new Text(pair._1()), new Text(pair._2())))
          .saveAsNewAPIHadoopFile(arguments[1], Text.class, Text.class, Records.Output.class);
    }
  }

  private static Tuple2<byte[], byte[]> keyAndValue(byte[] record) {
    return new Tuple2<>(
        Arrays.copyOf(record, Records.KEY), Arrays.copyOfRange(record, Records.KEY, Records.RECORD));
  }
}
