import java.util.Iterator;
import java.util.StringTokenizer;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaSparkContext;
import scala.Tuple2;

/** Word count on Spark's RDDs. Arguments: INPUT OUTPUT PARTITIONS */
public final class SparkWordCount {
  public static void main(String[] arguments) {
    int partitions = Integer.parseInt(arguments[2]);
    try (JavaSparkContext spark = new JavaSparkContext(new SparkConf().setAppName("word count"))) {
      spark
          .textFile(arguments[0])
          .flatMap(SparkWordCount::words)
          .mapToPair(word -> new Tuple2<>(word, 1L))
          .reduceByKey(Long::sum, partitions)
          .sortByKey(true, partitions)
          .map(pair -> pair._1() + "\t" + pair._2())
          .saveAsTextFile(arguments[1]);
    }
  }

  private static Iterator<String> words(String line) {
    StringTokenizer words = new StringTokenizer(line);
    return new Iterator<>() {
      @Override
      public boolean hasNext() {
        return words.hasMoreTokens();
      }

      @Override
      public String next() {
        return words.nextToken();
      }
    };
  }
}
