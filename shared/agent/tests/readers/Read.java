import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.Properties;

/** Loads each file as properties and prints a line for each: number of the file, key and value, in hex. */
class Read {
    public static void main(String[] paths) throws Exception {
        for (int i = 0; i < paths.length; i++) {
            Properties latin = new Properties();
            try (var file = new FileInputStream(paths[i])) {
                latin.load(file);
            }
            Properties unicode = new Properties();
            try (var file = new InputStreamReader(new FileInputStream(paths[i]), StandardCharsets.UTF_8)) {
                unicode.load(file);
            }
            if (!latin.equals(unicode)) {
                throw new Exception(paths[i] + " depends on the charset");
            }
            for (String key : latin.stringPropertyNames()) {
                System.out.println(i + " " + hex(key) + " " + hex(latin.getProperty(key)));
            }
        }
    }

    static String hex(String text) {
        return "x" + HexFormat.of().formatHex(text.getBytes(StandardCharsets.UTF_8));
    }
}
