package oscar;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** The clinic's records, in memory and invented: three patients, their appointments and notes, forms, and what was counted. */
public final class Clinic {
    public record Patient(int no, String name, String born, String phone) {}

    public record Note(int id, String text, String by, String how) {}

    public static final Map<Integer, Patient> PATIENTS = new LinkedHashMap<>();
    private static final Map<Integer, List<Note>> NOTES = new ConcurrentHashMap<>();
    private static final Map<Integer, String> STATUS = new ConcurrentHashMap<>();
    private static final Map<String, String> FORMS = new ConcurrentHashMap<>();
    private static final Map<String, Integer> COUNTS = new ConcurrentHashMap<>();
    private static final Map<String, Integer> FAILED = new ConcurrentHashMap<>();

    static {
        PATIENTS.put(1, new Patient(1, "Test, Alder", "1961-03-14", "555-0101"));
        PATIENTS.put(2, new Patient(2, "Test, Birch", "1984-11-02", "555-0102"));
        PATIENTS.put(3, new Patient(3, "Test, Cedar", "2015-07-28", "555-0103"));
        FORMS.put("1", "<p>Blood pressure <input name=\"bp\"></p><script>document.title = 'form ready';</script>");
    }

    private Clinic() {}

    public static Patient patient(String no) {
        try {
            return PATIENTS.get(Integer.parseInt(no));
        } catch (NumberFormatException e) {
            return null;
        }
    }

    public static synchronized int save(Patient p, String text, String by, String how) {
        List<Note> notes = NOTES.computeIfAbsent(p.no(), k -> new ArrayList<>());
        int id = count("notes");
        if (how.equals("autosave") && !notes.isEmpty() && notes.get(notes.size() - 1).how().equals("autosave")) {
            notes.remove(notes.size() - 1);
        }
        notes.add(new Note(id, text, by, how));
        return id;
    }

    public static synchronized List<Note> notes(Patient p) {
        return new ArrayList<>(NOTES.getOrDefault(p.no(), List.of()));
    }

    public static String status(int appointment) {
        return STATUS.getOrDefault(appointment, "t");
    }

    public static void setStatus(int appointment, String status) {
        count("writes");
        STATUS.put(appointment, status);
    }

    public static String form(String id) {
        return FORMS.get(id);
    }

    public static void plant(String id, String html) {
        FORMS.put(id, html);
    }

    public static int count(String what) {
        return COUNTS.merge(what, 1, Integer::sum);
    }

    public static int counted(String what) {
        return COUNTS.getOrDefault(what, 0);
    }

    /** Three wrong passwords lock an address out: keyed by address, a whole clinic behind one proxy shares a lock. */
    public static boolean locked(String address) {
        return FAILED.getOrDefault(address, 0) >= 3;
    }

    public static void failed(String address) {
        FAILED.merge(address, 1, Integer::sum);
    }

    public static void unlock(String address) {
        FAILED.remove(address);
    }
}
