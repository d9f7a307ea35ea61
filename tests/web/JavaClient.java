import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/** What every Java program does by default, which is to offer HTTP/2 in its first request. */
public class JavaClient {
    public static void main(String[] arguments) throws Exception {
        String url = arguments[0], deviceToken = arguments[1], apiToken = arguments[2];
        HttpClient client = HttpClient.newHttpClient();
        for (int number = 1; number <= 3; number++) {
            HttpRequest post = HttpRequest.newBuilder(URI.create(url + "/post_v2/"))
                .header("X-DEVICETOKEN", deviceToken).header("X-DEVICEID", "d1")
                .POST(BodyPublishers.ofString("{\"t\": " + number + "}")).build();
            System.out.println(client.send(post, BodyHandlers.ofString()).body());
        }
        HttpRequest put = HttpRequest.newBuilder(URI.create(url + "/v2/device/d1"))
            .header("X-APITOKEN", apiToken)
            .PUT(BodyPublishers.ofString("{\"description\": \"from Java\"}")).build();
        System.out.println(client.send(put, BodyHandlers.ofString()).statusCode());
    }
}
